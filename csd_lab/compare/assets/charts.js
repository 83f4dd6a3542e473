// Charts as SVG, drawn at the size that they are shown at, so that text is as large as on the page.

const MARGIN = { left: 64, right: 18, top: 12, bottom: 46 };

/** About `count` round values within [low, high]; whole ones only, if wanted. */
const ticksOf = (low, high, count, whole) => {
  const rough = Math.max((high - low) / count, whole ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks;
};

const powersOf = (low, high) => {
  const ticks = [];
  const factors = high / low > 1e3 ? [1] : [1, 2, 5];
  for (let p = Math.floor(Math.log10(low)); 10 ** p <= high; p += 1) {
    ticks.push(...factors.map((f) => f * 10 ** p).filter((t) => t >= low && t <= high));
  }
  return ticks;
};

/** A scale from values to pixels, with room at both ends. */
const scaleOf = (values, from, to, { log = false, whole = false, room = 0.06 } = {}) => {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (Number.isFinite(v) && (!log || v > 0)) [low, high] = [Math.min(low, v), Math.max(high, v)];
  }
  if (low > high) [low, high] = log ? [1, 10] : [0, 1];
  if (low === high) {
    const about = (Math.abs(low) || 1) * 0.1;
    [low, high] = [low - about, high + about];
  }
  const warp = log ? Math.log : (v) => v;
  const [a, b] = [warp(low), warp(high)];
  const pad = (b - a) * room;
  const place = (v) => from + (to - from) * (warp(v) - a + pad) / (b - a + 2 * pad);
  const back = log ? Math.exp : (v) => v;
  const count = Math.max(2, Math.round(Math.abs(to - from) / 70));
  const ends = [back(a - pad), back(b + pad)];
  return { place, ticks: log ? powersOf(...ends) : ticksOf(...ends, count, whole) };
};

/** Axes with their ticks and titles. */
const axes = (width, height, x, y, titles) => {
  const [left, right] = [MARGIN.left, width - MARGIN.right];
  const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
  const group = svg("g", { class: "axes" });
  for (const tick of x.ticks) {
    const at = x.place(tick);
    group.append(
      svg("line", { x1: at, x2: at, y1: top, y2: bottom }),
      svg("text", { x: at, y: bottom + 18, "text-anchor": "middle" }, shortText(tick)),
    );
  }
  for (const tick of y.ticks) {
    const at = y.place(tick);
    group.append(
      svg("line", { x1: left, x2: right, y1: at, y2: at }),
      svg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, shortText(tick)),
    );
  }
  group.append(
    svg("text", { class: "title", x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, titles[0]),
    svg("text", {
      class: "title", "text-anchor": "middle",
      transform: `translate(14 ${(top + bottom) / 2}) rotate(-90)`,
    }, titles[1]),
  );
  return group;
};

/** Lines of text beside a point of a chart; the first is its head. */
const showTip = (box, lines, x, y) => {
  const tip = box.querySelector(".tip");
  tip.replaceChildren(...lines.map(([text, place], i) => (
    el("p", { class: i ? null : "head", dir: "auto" }, place === undefined ? null : swatch(place), text)
  )));
  tip.hidden = false;
  const room = box.clientWidth - tip.offsetWidth - 4;
  tip.style.left = `${Math.max(0, Math.min(x + 14, room))}px`;
  tip.style.top = `${Math.max(0, y - tip.offsetHeight - 12)}px`;
};

const hideTip = (box) => { box.querySelector(".tip").hidden = true; };

/** Put a chart into its box, and let points be visited by pointer and by arrow keys. */
const present = (box, chart, stops, tell) => {
  let current = -1;
  const visit = (place) => {
    current = place;
    chart.querySelector(".current")?.remove();
    const { x, y } = stops[place];
    if (y !== undefined) chart.append(svg("circle", { class: "current", cx: x, cy: y, r: 11 }));
    showTip(box, tell(stops[place]), x, y ?? MARGIN.top + 60);
  };
  const leave = () => {
    chart.querySelector(".current")?.remove();
    hideTip(box);
  };
  chart.addEventListener("pointermove", (event) => {
    const frame = chart.getBoundingClientRect();
    const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
    const far = (s) => (s.y === undefined ? Math.abs(s.x - px) : Math.hypot(s.x - px, s.y - py) - (s.bonus ?? 0));
    let best = -1;
    stops.forEach((stop, place) => { if (best < 0 || far(stop) < far(stops[best])) best = place; });
    if (best >= 0 && far(stops[best]) < (stops[best].y === undefined ? Infinity : 22)) visit(best);
    else leave();
  });
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step || !stops.length) return;
    event.preventDefault();
    visit((current + step + stops.length) % stops.length);
  });
  box.replaceChildren(chart, el("div", { class: "tip", role: "status", hidden: true }));
};

const frameOf = (box, label) => {
  const width = Math.max(280, box.clientWidth);
  const height = Math.round(Math.min(460, Math.max(300, width * 0.5)));
  return {
    width, height,
    chart: svg("svg", {
      viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: "0", "aria-label": label,
    }),
  };
};

const errorBars = (point, x, y, colour) => {
  const lines = [];
  if (Number.isFinite(point.x.half)) {
    lines.push({ x1: x.place(point.x.low), x2: x.place(point.x.high), y1: y.place(point.y.mean), y2: y.place(point.y.mean) });
  }
  if (Number.isFinite(point.y.half)) {
    lines.push({ y1: y.place(point.y.low), y2: y.place(point.y.high), x1: x.place(point.x.mean), x2: x.place(point.x.mean) });
  }
  return lines.map((line) => svg("line", { ...line, class: `bar ${colour}` }));
};

/** The border of what a front beats, from point to point. */
const frontPath = (corners, higherX) => {
  const sorted = [...corners].sort((a, b) => a[0] - b[0]);
  const parts = sorted.map(([px, py], i) => {
    if (!i) return `M${px} ${py}`;
    const [qx, qy] = sorted[i - 1];
    return higherX ? `L${qx} ${py}L${px} ${py}` : `L${px} ${qy}L${px} ${py}`;
  });
  return parts.join("");
};

/** Names beside points, each on the side where it hits nothing, else left out. */
const nameTags = (points, width) => {
  const taken = points.map(({ at: [px, py] }) => [px - 7, py - 5, px + 7, py + 5]);
  const free = (box) => box[0] > MARGIN.left && box[2] < width - 4
    && !taken.some((o) => box[0] < o[2] && o[0] < box[2] && box[1] < o[3] && o[1] < box[3]);
  return points.flatMap(({ at: [px, py], label }) => {
    const text = label.length > 32 ? `${label.slice(0, 31)}…` : label;
    const long = 7 * text.length;
    const sides = [
      [px + 9, py - 22, "start", px + 9], [px + 9, py + 5, "start", px + 9],
      [px - 9 - long, py - 22, "end", px - 9], [px - 9 - long, py + 5, "end", px - 9],
    ];
    const side = sides.find(([a, b]) => free([a, b, a + long, b + 16]));
    if (!side) return [];
    taken.push([side[0], side[1], side[0] + long, side[1] + 16]);
    return [svg("text", { class: "tag", x: side[3], y: side[1] + 12, "text-anchor": side[2] }, text)];
  });
};

/**
 * Means of groups with their intervals, runs behind them, and the front.
 * view: {groups: [{label, place, x, y}], runs: [{label, place, x, y, details}], of, front, titles, higherX, bars}
 */
const drawTradeOff = (box, view) => {
  const { width, height, chart } = frameOf(box, `${view.titles[1]} against ${view.titles[0]}`);
  const ends = (axis) => [
    ...view.groups.flatMap((g) => [g[axis].mean, ...(view.bars ? [g[axis].low, g[axis].high] : [])]),
    ...view.runs.map((r) => r[axis]),
  ];
  const x = scaleOf(ends("x"), MARGIN.left, width - MARGIN.right);
  const y = scaleOf(ends("y"), height - MARGIN.bottom, MARGIN.top);
  const dots = view.runs.map((r) => ({ ...r, at: [x.place(r.x), y.place(r.y)] }));
  const means = view.groups.map((g) => ({ ...g, at: [x.place(g.x.mean), y.place(g.y.mean)] }));
  chart.append(axes(width, height, x, y, width < 560 ? view.shortTitles : view.titles));
  for (const dot of dots) chart.append(mark(...dot.at, 3, lookOf(dot.place), { class: "faint" }));
  const corners = (view.of === "runs" ? dots : means).filter((p) => view.front.has(p.id)).map((p) => p.at);
  chart.append(svg("path", { class: "front", d: frontPath(corners, view.higherX) }));
  if (view.bars) for (const g of means) chart.append(...errorBars(g, x, y, lookOf(g.place).colour));
  for (const g of means) {
    chart.append(mark(...g.at, 7, lookOf(g.place), {
      class: view.front.has(g.id) ? "mean on-front" : "mean", data: { group: g.label },
    }));
  }
  if (means.length <= 16) chart.append(...nameTags(means, width));
  const stops = [
    ...means.map((g) => ({ x: g.at[0], y: g.at[1], lines: g.details, bonus: 6 })),
    ...dots.map((r) => ({ x: r.at[0], y: r.at[1], lines: r.details })),
  ];
  present(box, chart, stops, (stop) => stop.lines);
};

/** Mean and band over steps of each group: view: {groups: [{label, place, points}], title, log}. */
const drawCurves = (box, view) => {
  const { width, height, chart } = frameOf(box, `${view.title} over steps`);
  const all = view.groups.flatMap((g) => g.points);
  const within = all.flatMap((p) => (view.log ? [p.mean] : [p.mean, p.low, p.high]));
  const x = scaleOf(all.map((p) => p.step), MARGIN.left, width - MARGIN.right, { whole: true, room: 0.01 });
  const y = scaleOf(within, height - MARGIN.bottom, MARGIN.top, { log: view.log });
  const floor = height - MARGIN.bottom, ceiling = MARGIN.top;
  const at = (value) => {
    if (view.log && value <= 0) return floor;
    return Math.min(floor, Math.max(ceiling, y.place(value)));
  };
  chart.append(axes(width, height, x, y, ["step", view.title]));
  for (const { points, place } of view.groups) {
    const banded = points.filter((p) => Number.isFinite(p.half));
    const edge = [
      ...banded.map((p) => `${x.place(p.step)},${at(p.high)}`),
      ...[...banded].reverse().map((p) => `${x.place(p.step)},${at(p.low)}`),
    ];
    if (banded.length > 1) chart.append(svg("polygon", { class: `band ${lookOf(place).colour}`, points: edge.join(" ") }));
  }
  for (const { points, place, label } of view.groups) {
    const look = lookOf(place);
    const line = points.map((p) => `${x.place(p.step)},${at(p.mean)}`).join(" ");
    chart.append(svg("polyline", { class: `line ${look.colour} d${look.shape}`, points: line, data: { group: label } }));
    if (points.length <= 30) {
      for (const p of points) chart.append(mark(x.place(p.step), at(p.mean), 2.5, look));
    }
  }
  const steps = [...new Set(all.map((p) => p.step))].sort((a, b) => a - b);
  const tell = ({ step }) => [
    [`step ${shortText(step)}`],
    ...view.groups.flatMap((g) => {
      const point = g.points.find((p) => p.step === step);
      return point ? [[`${g.label}: ${meanText(point)}`, g.place]] : [];
    }),
  ];
  present(box, chart, steps.map((step) => ({ x: x.place(step), step })), tell);
};

/** An interval on a scale that its whole table shares. */
const drawInterval = (estimate, reach, look) => {
  const [width, height] = [220, 24];
  const place = (value) => width / 2 + (value / reach) * (width / 2 - 8);
  const middle = height / 2;
  return svg(
    "svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "interval", "aria-hidden": "true" },
    svg("line", { class: "zero", x1: width / 2, x2: width / 2, y1: 0, y2: height }),
    Number.isFinite(estimate.half)
      ? svg("line", { class: `bar ${look.colour}`, x1: place(estimate.low), x2: place(estimate.high), y1: middle, y2: middle })
      : null,
    Number.isFinite(estimate.mean) ? mark(place(estimate.mean), middle, 5, look) : null,
  );
};
