// Plays the clips in step under one set of controls; without this script each has its own.
(() => {
  "use strict";
  const clips = [...document.querySelectorAll("video")];
  const byId = (id) => document.getElementById(id);

  for (const clip of clips) {
    const figure = clip.closest("figure");
    const describe = () => {
      figure.querySelector(".size").textContent = `${clip.videoWidth} × ${clip.videoHeight}`;
      figure.classList.toggle("wide", clip.videoWidth > 1.9 * clip.videoHeight);
      clip.classList.toggle("pixels", clip.videoWidth <= 256);
    };
    clip.addEventListener("loadedmetadata", describe);
    if (clip.readyState >= 1) describe();
    clip.addEventListener("error", () => {
      figure.querySelector(".size").textContent = "cannot be played by this browser";
    });
  }

  if (clips.length > 0) {
    const [leader] = clips;
    const play = byId("play"), place = byId("place"), time = byId("time"), speed = byId("speed");
    let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    let held = false;

    const seek = (clip, seconds) => {
      const end = Number.isFinite(clip.duration) ? clip.duration : seconds;
      clip.currentTime = Math.min(seconds, end);
    };
    const apply = () => {
      play.textContent = playing ? "Pause" : "Play";
      for (const clip of clips) {
        clip.playbackRate = Number(speed.value);
        if (playing) clip.play().catch(() => {});
        else clip.pause();
      }
      if (!playing) for (const clip of clips.slice(1)) seek(clip, leader.currentTime);
    };
    const toggle = () => { playing = !playing; apply(); };
    const follow = () => {
      const length = leader.duration;
      if (length > 0 && !held) place.value = leader.currentTime / length;
      if (length > 0) time.value = `${leader.currentTime.toFixed(2)} / ${length.toFixed(2)} s`;
      if (playing && !leader.seeking) {
        for (const clip of clips.slice(1)) {
          const ready = clip.readyState >= 2 && !clip.seeking;
          if (ready && Math.abs(clip.currentTime - leader.currentTime) > 0.08) {
            seek(clip, leader.currentTime);
          }
        }
      }
      requestAnimationFrame(follow);
    };

    for (const clip of clips) {
      clip.controls = false;
      clip.addEventListener("click", toggle);
    }
    play.addEventListener("click", toggle);
    speed.addEventListener("change", apply);
    place.addEventListener("input", () => {
      held = true;
      playing = false;
      apply();
      for (const clip of clips) seek(clip, Number(place.value) * (leader.duration || 0));
    });
    place.addEventListener("change", () => { held = false; });
    byId("player").hidden = false;
    apply();
    requestAnimationFrame(follow);
  }

  for (const button of document.querySelectorAll(".copy")) {
    const source = byId(button.dataset.of);
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
