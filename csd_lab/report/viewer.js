// Two pictures of one size under a divider that is dragged; wheel, pinch and keys zoom and pan.
// Without this script the pictures stand below each other.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const stage = byId("viewer-stage"), canvas = byId("viewer-canvas"), divider = byId("viewer-divider");
  const selects = [byId("viewer-left"), byId("viewer-right")];
  const tags = [byId("viewer-left-name"), byId("viewer-right-name")];
  const pictures = [...document.querySelectorAll("#viewer-pictures img")];
  const width = Number(stage.dataset.width), height = Number(stage.dataset.height);
  const pen = canvas.getContext("2d");
  const LARGEST = 32, SHORTEST = 260, NUDGE = 0.02, STRIDE = 60, WHOLE = 1.0001;

  // The picture's point (x, y) is at the stage's top left corner; scale is stage pixels a pixel.
  const view = { x: 0, y: 0, scale: 1, cut: 0.5 };
  const pointers = new Map();
  let whole = true, moving = null, frame = 0;

  const fitting = () => Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const limited = (value, low, high) => Math.min(Math.max(value, low), high);
  const placed = (corner, shown, length) =>
    shown >= length ? (length - shown) / 2 : limited(corner, 0, length - shown);

  function settle() {
    const least = fitting();
    view.scale = whole ? least : limited(view.scale, least, Math.max(LARGEST, least));
    whole = view.scale < least * WHOLE;
    view.x = placed(view.x, stage.clientWidth / view.scale, width);
    view.y = placed(view.y, stage.clientHeight / view.scale, height);
    stage.classList.toggle("viewer-near", !whole);
    byId("viewer-zoom").value = `${Math.round(view.scale * 100)} %`;
    divider.style.left = `${view.cut * 100}%`;
    divider.setAttribute("aria-valuenow", Math.round(view.cut * 100));
    const names = selects.map((select) => select.selectedOptions[0].textContent);
    divider.setAttribute("aria-valuetext", `${Math.round(view.cut * 100)} % ${names[0]}`);
    tags.forEach((tag, side) => { tag.textContent = names[side]; });
    if (!frame) frame = requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    const dense = window.devicePixelRatio || 1;
    const across = Math.round(stage.clientWidth * dense), down = Math.round(stage.clientHeight * dense);
    if (canvas.width !== across) canvas.width = across;
    if (canvas.height !== down) canvas.height = down;
    const scale = view.scale * dense, edge = view.cut * across;
    pen.clearRect(0, 0, across, down);
    pen.imageSmoothingEnabled = scale < 2;
    pen.imageSmoothingQuality = "high";
    selects.forEach((select, side) => {
      const picture = pictures[Number(select.value)];
      if (!picture.naturalWidth) return;
      pen.save();
      pen.beginPath();
      pen.rect(side ? edge : 0, 0, side ? across - edge : edge, down);
      pen.clip();
      lay(picture, scale, across, down);
      pen.restore();
    });
  }

  function lay(picture, scale, across, down) {
    const left = Math.max(0, Math.floor(view.x)), top = Math.max(0, Math.floor(view.y));
    const right = Math.min(width, Math.ceil(view.x + across / scale));
    const bottom = Math.min(height, Math.ceil(view.y + down / scale));
    const place = [
      (left - view.x) * scale, (top - view.y) * scale, (right - left) * scale, (bottom - top) * scale,
    ];
    if (picture.dataset.clear) {
      pen.fillStyle = checks();
      pen.fillRect(...place);
    }
    const fx = picture.naturalWidth / width, fy = picture.naturalHeight / height;
    pen.drawImage(picture, left * fx, top * fy, (right - left) * fx, (bottom - top) * fy, ...place);
  }

  function checks() {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 16;
    const brush = tile.getContext("2d");
    brush.fillStyle = "#fff";
    brush.fillRect(0, 0, 16, 16);
    brush.fillStyle = "#ccc";
    brush.fillRect(0, 0, 8, 8);
    brush.fillRect(8, 8, 8, 8);
    return pen.createPattern(tile, "repeat");
  }

  function zoom(factor, at = { x: stage.clientWidth / 2, y: stage.clientHeight / 2 }) {
    const before = view.scale, least = fitting();
    view.scale = limited(before * factor, least, Math.max(LARGEST, least));
    view.x += at.x / before - at.x / view.scale;
    view.y += at.y / before - at.y / view.scale;
    whole = view.scale < least * WHOLE;
    settle();
  }
  function fit() { whole = true; settle(); }
  function pan(dx, dy) {
    view.x -= dx / view.scale;
    view.y -= dy / view.scale;
    settle();
  }
  function cut(share) { view.cut = limited(share, 0, 1); settle(); }

  const point = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { length: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, point(event));
    const held = divider.contains(event.target);
    moving = held || whole ? "divider" : "picture";
    if (held) divider.focus();
    else if (whole && event.pointerType === "mouse") cut(point(event).x / stage.clientWidth);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = point(event);
    if (pointers.size === 2) {
      const from = spread();
      pointers.set(event.pointerId, now);
      const to = spread();
      moving = null;
      if (from.length > 0) zoom(to.length / from.length, from);
      pan(to.x - from.x, to.y - from.y);
      return;
    }
    pointers.set(event.pointerId, now);
    if (moving === "divider") cut(now.x / stage.clientWidth);
    if (moving === "picture") pan(now.x - before.x, now.y - before.y);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      moving = null;
    });
  }
  stage.addEventListener("wheel", (event) => {
    const out = event.deltaY > 0;
    if (out && whole && !event.ctrlKey) return; // let the page scroll on
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), point(event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    if (whole) zoom(Math.max(1, 4 * view.scale) / view.scale, point(event));
    else fit();
  });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0;
    const upwards = { ArrowUp: -1, ArrowDown: 1 }[event.key] || 0;
    const slides = event.target === divider || whole;
    if (sideways && slides) cut(view.cut + sideways * NUDGE * (event.shiftKey ? 5 : 1));
    else if (sideways || (upwards && !whole)) pan(-sideways * STRIDE, -upwards * STRIDE);
    else if (event.key === "Home" && slides) cut(0);
    else if (event.key === "End" && slides) cut(1);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "1") zoom(1 / view.scale);
    else return;
    event.preventDefault();
  });

  byId("viewer-in").addEventListener("click", () => zoom(1.5));
  byId("viewer-out").addEventListener("click", () => zoom(1 / 1.5));
  byId("viewer-fit").addEventListener("click", fit);
  byId("viewer-one").addEventListener("click", () => zoom(1 / view.scale));
  byId("viewer-full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else stage.requestFullscreen();
  });
  byId("viewer-full").hidden = !document.fullscreenEnabled;
  for (const select of selects) select.addEventListener("change", settle);
  for (const picture of pictures) picture.addEventListener("load", settle);

  byId("viewer").hidden = false;
  byId("viewer-pictures").hidden = true;
  const arrange = () => {
    if (!document.fullscreenElement) {
      const wanted = Math.max(SHORTEST, (stage.clientWidth * height) / width);
      stage.style.height = `${Math.round(Math.min(wanted, 0.76 * window.innerHeight))}px`;
    } else {
      stage.style.height = "";
    }
    settle();
  };
  new ResizeObserver(arrange).observe(stage);
  window.addEventListener("resize", arrange);
  arrange();
})();
