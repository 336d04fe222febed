// Shows frames as they come: before on the left of a line, after on the right of it.
//
// The last frames are kept, as many as a fixed part of the memory holds, so that one can
// go back a little. While playing, a frame is shown as long as the video says, or until
// the next one is made if that takes longer; what comes too fast to be shown is skipped
// here, and saved all the same. When all are made, those that are kept play in a loop.

const KEPT = 60;
const LEAST_KEPT = 4;
const KEPT_BYTES = 200e6;
// Seconds for which the last frame stays before the loop begins again.
const REST = 1;
const ZOOMS = [1, 2, 4, 8];

export class Player {
  #frames = []; // shown ones and those that wait

  #at = -1; // place of the shown one in #frames

  #playing = true;

  #due = 0;

  #zoom = 0;

  #centre = [0.5, 0.5];

  #kept = KEPT;

  /** Whether no frame will follow. */
  ended = false;

  /** @param {(frame) => void} shown is told of each frame that is shown. */
  constructor(stage, canvas, shown) {
    Object.assign(this, { stage, canvas, shown });
    this.context = canvas.getContext('2d');
    this.split = 0.5;
    const tick = (now) => {
      this.#tick(now);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  /** Begins anew. @param {number} ratio of the picture's width and height as shown. */
  clear(width, height, ratio) {
    for (const frame of this.#frames) release(frame);
    this.#frames = [];
    this.#at = -1;
    this.#playing = true;
    this.ended = false;
    const room = Math.floor(KEPT_BYTES / (4 * width * height));
    this.#kept = Math.min(KEPT, Math.max(LEAST_KEPT, room));
    this.canvas.width = width;
    this.canvas.height = height;
    this.stage.style.setProperty('--ratio', String(ratio));
  }

  add(frame) {
    this.#frames.push(frame);
    while (this.#frames.length > this.#kept) {
      // While paused, what is shown stays, and what comes after it is thinned out.
      const spare = this.#at > 0 || this.#playing ? 0 : 1;
      release(this.#frames.splice(spare, 1)[0]);
      if (spare === 0 && this.#at >= 0) this.#at -= 1;
    }
    if (this.#at < 0 && this.#frames.length === 1) this.#show(0);
  }

  get playing() {
    return this.#playing;
  }

  play() {
    this.#playing = true;
    this.#due = 0;
  }

  pause() {
    this.#playing = false;
  }

  /** Whether there was a frame to go to. */
  step(by) {
    const to = this.#at + by;
    if (to < 0 || to >= this.#frames.length) return false;
    this.#show(to);
    return true;
  }

  setSplit(share) {
    this.split = share;
    this.stage.style.setProperty('--split', `${100 * share}%`);
    this.#draw();
  }

  /** @returns {string} the new zoom. */
  zoom(by) {
    this.#zoom = Math.min(ZOOMS.length - 1, Math.max(0, this.#zoom + by));
    this.move(0, 0);
    return this.#zoom ? `${ZOOMS[this.#zoom]}x` : 'fit';
  }

  /** Moves the zoomed part, in shares of what is seen. */
  move(right, down) {
    const zoom = ZOOMS[this.#zoom];
    const half = 0.5 / zoom;
    this.#centre = [right, down].map((by, axis) => (
      Math.min(1 - half, Math.max(half, this.#centre[axis] + by / zoom))
    ));
    this.#draw();
  }

  #tick(now) {
    if (!this.#playing || now < this.#due || !this.#frames.length) return;
    const last = this.#frames.length - 1;
    if (this.#at < last) {
      const { time } = this.#frames[Math.max(0, this.#at)];
      this.#show(this.#at + 1);
      const length = this.#frames[this.#at].time - time;
      this.#due = now + Math.min(1000, 1000 * Math.max(0, length)) - 4;
      if (this.ended && this.#at === last) this.#due = now + 1000 * REST;
    } else if (this.ended && last > 0) {
      this.#show(0);
      this.#due = now + 1000 * (this.#frames[1].time - this.#frames[0].time) - 4;
    }
  }

  #show(place) {
    this.#at = place;
    this.#draw();
    this.shown(this.#frames[place]);
  }

  #draw() {
    const frame = this.#frames[this.#at];
    if (!frame) return;
    const { canvas: { width, height }, context, split } = this;
    const zoom = ZOOMS[this.#zoom];
    const line = Math.round(width * split);
    const left = this.#centre[0] - 0.5 / zoom;
    const top = this.#centre[1] - 0.5 / zoom;
    const part = (image, from, to) => {
      if (to <= from) return;
      const across = (share) => (left + share / zoom) * image.width;
      context.drawImage(
        image, across(from / width), top * image.height,
        across(to / width) - across(from / width), image.height / zoom,
        from, 0, to - from, height,
      );
    };
    context.imageSmoothingEnabled = true;
    part(frame.before, 0, line);
    part(frame.after, line, width);
  }
}

function release(frame) {
  frame.before.close();
  frame.after.close();
}
