"use strict";
(() => {
  document.documentElement.classList.add("scripted");
  const audio = document.querySelector("audio");
  if (!audio) return;
  const timeline = document.querySelector(".timeline");
  const scroll = document.querySelector(".scroll");
  const lanes = document.querySelector(".lanes");
  const head = document.querySelector(".playhead");
  const events = [...document.querySelectorAll(".events li[data-at]")];
  const whole = Number(timeline.dataset.seconds);
  const save = document.querySelector(".save");
  save.href = audio.currentSrc || audio.src;

  const draw = () => {
    const now = Math.min(audio.currentTime, whole);
    head.style.left = `${(now / whole) * 100}%`;
    lanes.setAttribute("aria-valuenow", now.toFixed(1));
    lanes.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${whole.toFixed(1)} seconds`);
    const heard = now > 0 ? events.filter((event) => Number(event.dataset.at) <= now + 0.01).pop() : undefined;
    for (const event of events) {
      if (event === heard) event.setAttribute("aria-current", "true");
      else event.removeAttribute("aria-current");
    }
    const left = (now / whole) * timeline.clientWidth;
    if (left < scroll.scrollLeft || left > scroll.scrollLeft + scroll.clientWidth) {
      scroll.scrollLeft = left - scroll.clientWidth * 0.2;
    }
  };
  const run = () => {
    draw();
    if (!audio.paused) requestAnimationFrame(run);
  };
  const seek = (seconds) => {
    audio.currentTime = Math.min(Math.max(seconds, 0), whole);
    draw();
  };
  const toggle = () => (audio.paused ? audio.play() : audio.pause());
  audio.addEventListener("play", run);
  audio.addEventListener("seeked", draw);
  audio.addEventListener("timeupdate", draw);

  const point = (event) => {
    const box = lanes.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * whole);
  };
  lanes.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    point(event);
    if (event.pointerType === "mouse") lanes.setPointerCapture(event.pointerId);
  });
  lanes.addEventListener("pointermove", (event) => {
    if (lanes.hasPointerCapture(event.pointerId)) point(event);
  });
  lanes.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5, Home: -whole, End: whole,
    };
    if (event.key in moves) seek(audio.currentTime + moves[event.key]);
    else if (event.key === " " || event.key === "Enter") toggle();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const mark = event.target.closest("a.mark");
    if (!mark) return;
    seek(Number(mark.dataset.at));
    if (mark.closest(".events")) {
      event.preventDefault();
      audio.play();
    }
  });

  let zoom = 1;
  const buttons = document.querySelectorAll(".zoom button");
  const resize = () => {
    timeline.style.setProperty("--zoom", zoom);
    buttons[0].disabled = zoom === 1;
    buttons[1].disabled = zoom === 8;
    draw();
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      zoom = Math.min(8, Math.max(1, button.dataset.zoom === "in" ? zoom * 2 : zoom / 2));
      resize();
    });
  }
  resize();
})();
