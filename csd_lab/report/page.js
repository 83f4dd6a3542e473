// Plays the clips of a section in step under one set of controls; without this script each has
// its own.
(() => {
  "use strict";
  const describe = (clip) => {
    const figure = clip.closest("figure");
    const tell = () => {
      figure.querySelector(".size").textContent = `${clip.videoWidth} × ${clip.videoHeight}`;
      figure.classList.toggle("wide", clip.videoWidth > 1.9 * clip.videoHeight);
      clip.classList.toggle("pixels", clip.videoWidth <= 256);
    };
    clip.addEventListener("loadedmetadata", tell);
    if (clip.readyState >= 1) tell();
    clip.addEventListener("error", () => {
      figure.querySelector(".size").textContent = "cannot be played by this browser";
    });
  };

  const playTogether = (section) => {
    const clips = [...section.querySelectorAll("video")];
    clips.forEach(describe);
    if (clips.length === 0) return;
    const [leader] = clips;
    const [play, place, time, speed] = ["play", "place", "time", "speed"].map(
      (part) => section.querySelector(`.${part}`));
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
    section.querySelector(".player").hidden = false;
    apply();
    requestAnimationFrame(follow);
  };

  document.querySelectorAll(".together").forEach(playTogether);

  for (const button of document.querySelectorAll(".copy")) {
    const source = document.getElementById(button.dataset.of);
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
