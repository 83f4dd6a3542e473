// A grid of clips that play in step. Only clips in view are decoded; one clock drives them all.

const DRIFT = 0.1;

/** The player: `attach(video, address)` makes a clip follow the clock whenever it is in view. */
const makePlayer = ({ play, place, time, speed }) => {
  const active = new Set();
  const addresses = new WeakMap();
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let held = false;
  let length = 0;
  let position = 0;
  let last = performance.now();

  const load = (video) => {
    if (active.has(video)) return;
    active.add(video);
    video.src = addresses.get(video);
  };
  const unload = (video) => {
    active.delete(video);
    video.removeAttribute("src");
    video.load();
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) load(target);
      else if (active.has(target)) unload(target);
    }
  }, { rootMargin: "200px" });

  const follow = (video) => {
    if (!(video.duration > 0) || video.seeking) return;
    const whole = Math.abs(video.duration - length) < 0.02;
    const wanted = Math.min(position, video.duration - 0.001);
    let away = Math.abs(video.currentTime - wanted);
    if (whole && playing) away = Math.min(away, length - away);
    video.loop = whole;
    video.playbackRate = Number(speed.value);
    if (away > (playing ? DRIFT : 0.004)) video.currentTime = wanted;
    const runs = playing && (whole || position < video.duration);
    if (runs && video.paused) video.play().catch(() => {});
    if (!runs && !video.paused) video.pause();
  };
  const tick = (now) => {
    if (playing && length > 0) {
      position = (position + (Math.min(now - last, 1000) / 1000) * Number(speed.value)) % length;
    }
    last = now;
    for (const video of active) follow(video);
    if (length > 0) {
      if (!held) place.value = position / length;
      time.value = `${position.toFixed(2)} / ${length.toFixed(2)} s`;
    }
    requestAnimationFrame(tick);
  };

  const say = () => { play.textContent = playing ? "Pause" : "Play"; };
  const toggle = () => { playing = !playing; say(); };
  play.addEventListener("click", toggle);
  place.addEventListener("input", () => {
    held = true;
    playing = false;
    say();
    position = Math.min(Number(place.value), 0.9999) * length;
  });
  place.addEventListener("change", () => { held = false; });
  say();
  requestAnimationFrame(tick);

  return {
    attach: (video, address) => {
      addresses.set(video, address);
      video.muted = true;
      video.addEventListener("loadedmetadata", () => {
        length = Math.max(length, video.duration || 0);
        video.classList.toggle("pixels", video.videoWidth <= 256);
        video.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
      });
      video.addEventListener("error", () => {
        if (active.has(video)) video.replaceWith(el("p", { class: "absent" }, "cannot be played here"));
        active.delete(video);
      });
      video.addEventListener("click", toggle);
      watcher.observe(video);
    },
    clear: () => {
      watcher.disconnect();
      for (const video of [...active]) unload(video);
      length = 0;
    },
  };
};
