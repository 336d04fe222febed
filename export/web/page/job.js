// What the worker does: opens a network, checks it, looks at files, upscales them.
//
//   in                                  out
//   {open: model, accelerator}          {opened} or {refused: why}
//   {look: file}                        {clip: facts}
//   {start: file}                       {began}, {frame}, {progress}, {paused}, {done}
//   {pause}, {resume}, {step}, {cancel}
//   {seen}: a frame has arrived
//
// Any failure comes out as {failed: {text, unexpected}}. After one that was expected, like
// a file that is no video, the worker is as good as before; after others one had better
// open a new one. Messages about a file bear the `id` that came with it.

import { Engine } from './engine.js';
import { Explained, sentence } from './explained.js';
import { openClip } from './media.js';
import { Saving } from './saving.js';
import { SceneCutDetector } from './scene_cuts.js';
import { TiledNetwork } from './tiles.js';
import { windows } from './windows.js';

// A GPU that computes in half precision is right to about 0.003; one that is wrong is
// off by the range.
const TOLERANCE = 0.02;
// Frames on their way to the page. Its memory stays flat because no more are made before
// it has taken these.
const AHEAD = 2;

export class Job {
  #post;

  #running = null;

  #finished = Promise.resolve(); // when the work before has closed its files

  constructor(post) {
    this.#post = post;
  }

  async hear(message) {
    const { id } = message;
    try {
      if (message.open) await this.#open(message.open, message.accelerator);
      else if (message.look) await this.#look(message.look, id);
      else if (message.start) await this.#start(message.start, id);
      else if (message.pause) this.#running?.pause();
      else if (message.resume) this.#running?.resume();
      else if (message.step) this.#running?.step();
      else if (message.seen) this.#running?.seen(id);
      else if (message.cancel) this.#running?.cancel();
    } catch (error) {
      const unexpected = !(error instanceof Explained
        || error?.name === 'QuotaExceededError');
      this.#post({ failed: { text: sentence(error), unexpected }, id });
    }
  }

  async #open(model, accelerator) {
    const began = performance.now();
    try {
      this.model = model;
      this.engine = await Engine.open(model.file, accelerator);
      if (accelerator === 'webgpu' && !this.engine.fullyAccelerated) {
        throw new Error('a part of the network would run on the CPU');
      }
      const error = await knownError(this.engine, model.check);
      const trouble = this.engine.errors[0];
      if (trouble) throw new Error(`it reports "${trouble.split('\n')[0]}"`);
      if (!(error <= TOLERANCE)) {
        throw new Error(`a window with a known answer came out wrong by ${
          error.toPrecision(2)} of the range`);
      }
      const { adapter, threads } = this.engine;
      const seconds = (performance.now() - began) / 1000;
      this.#post({ opened: { accelerator, adapter, threads, error, seconds } });
    } catch (error) {
      this.#post({ refused: String(error?.message ?? error) });
    }
  }

  async #look(file, id) {
    const clip = await openClip(file, this.model.scale);
    const { width, height, codec, duration, start, expected, audio } = clip;
    clip.close();
    this.#post({
      id,
      clip: {
        width, height, codec, expected, duration: duration - start, sound: Boolean(audio),
      },
    });
  }

  async #start(file, id) {
    const running = new Run(this.model, this.engine, id, (message, transfer) => {
      this.#post({ ...message, id }, transfer);
    });
    this.#running = running;
    const before = this.#finished;
    const work = before.then(() => (running.cancelled ? null : running.go(file)));
    this.#finished = work.catch(() => {});
    try {
      await work;
    } finally {
      if (this.#running === running) this.#running = null;
    }
  }
}

/** Largest error on the window whose answer is known. */
async function knownError(engine, check) {
  const [input, answer] = await Promise.all([check.input, check.answer].map(async (url) => {
    const response = await fetch(new URL(url, import.meta.url));
    if (!response.ok) throw new Error(`${url}: ${response.status}`);
    return response.arrayBuffer();
  }));
  const frames = Float32Array.from(new Uint8Array(input), (byte) => byte / 255);
  const expected = new Float32Array(answer);
  // Twice: some faults show in the first run only, others in every one but the first.
  let largest = 0;
  for (let turn = 0; turn < 2; turn++) {
    const output = await engine.run(frames);
    if (Math.ceil(output.length / check.stride) !== expected.length) return Infinity;
    for (const [i, value] of expected.entries()) {
      const error = Math.abs(output[i * check.stride] - value);
      if (!(error <= largest)) largest = Number.isNaN(error) ? Infinity : error;
    }
  }
  return largest;
}

class Run {
  #gate = null;

  #open = null;

  #unseen = 0;

  #room = null;

  cancelled = false;

  constructor(model, engine, id, post) {
    Object.assign(this, { model, engine, id, post });
  }

  pause() {
    if (!this.#gate) this.#gate = new Promise((resolve) => { this.#open = resolve; });
  }

  resume() {
    this.#open?.();
    this.#gate = null;
  }

  /** Lets one window through. */
  step() {
    if (!this.#gate) return;
    this.resume();
    this.pause();
  }

  cancel() {
    this.cancelled = true;
    this.resume();
    this.#room?.();
  }

  /** The page has taken a frame. */
  seen(id) {
    if (id !== this.id) return;
    this.#unseen -= 1;
    this.#room?.();
  }

  async #show(frame) {
    while (this.#unseen >= AHEAD && !this.cancelled) {
      await new Promise((resolve) => { this.#room = resolve; });
    }
    this.#unseen += 1;
    this.post({ frame }, [frame.before, frame.after]);
  }

  /** One window through the network. */
  async #compute(frames) {
    const output = await this.engine.run(frames);
    const [trouble] = this.engine.errors;
    if (trouble) {
      throw new Error(`the GPU stopped computing rightly (${trouble.split('\n')[0]})`);
    }
    return output;
  }

  async go(file) {
    const clip = await openClip(file, this.model.scale);
    let saving;
    try {
      saving = await this.#upscale(clip, (begun) => { saving = begun; });
    } catch (error) {
      await saving?.abandon();
      throw error;
    } finally {
      clip.close();
    }
  }

  async #upscale(clip, begun) {
    const { model, engine, post } = this;
    const [width, height] = [clip.width * model.scale, clip.height * model.scale];
    const network = new TiledNetwork(
      (frames) => this.#compute(frames), model, clip.width, clip.height,
    );
    const saving = await Saving.begin(clip, width, height);
    begun(saving);
    const [wide, tall] = clip.pixelAspect;
    post({
      began: {
        width, height, tiles: network.tiles, codec: saving.codec, notes: saving.notes,
        expected: 2 * clip.expected - 1, ratio: (width * wide) / (height * tall),
      },
    });
    const counts = { frames: 0, cuts: 0, network: 0 };
    const began = performance.now();
    let paused = 0;
    let held = null;

    const write = async (image, before, time, length, isHeld = false) => {
      const shown = await Promise.all([
        createImageBitmap(new ImageData(image, width, height)),
        createImageBitmap(before),
      ]);
      await this.#show({
        index: counts.frames, time: time / saving.clock, after: shown[0],
        before: shown[1], held: isHeld,
      });
      await saving.add(image, time, length);
      counts.frames += 1;
    };

    for await (const window of windows(this.#numbered(clip, counts), model.framesIn)) {
      const waiting = performance.now();
      if (this.#gate) post({ paused: true });
      await this.#gate;
      paused += performance.now() - waiting;
      if (this.cancelled) break;
      const { items, keep, hold } = window;
      if (hold) {
        // Half-way between two scenes the frame before the cut is shown on.
        const { image, before, frame } = held;
        await write(image, before, frame.time + frame.end, frame.end - frame.time, true);
      }
      const started = performance.now();
      const images = await network.upscale(items.map((f) => f.rgb), () => this.cancelled);
      counts.network += performance.now() - started;
      if (!images) break;
      for (let p = keep[0]; p < keep[1]; p++) {
        const frame = items[p >> 1];
        const length = frame.end - frame.time;
        const time = p % 2 ? frame.time + frame.end : 2 * frame.time;
        const before = picture(frame);
        await write(images[p], before, time, frame.last ? 2 * length : length);
        held = { image: images[p], before, frame };
      }
      post({
        progress: {
          frames: counts.frames,
          cuts: counts.cuts,
          seconds: (performance.now() - began - paused) / 1000,
          networkSeconds: counts.network / 1000,
          runtimeBytes: engine.bytes,
        },
      });
    }
    if (this.cancelled) {
      await saving.abandon();
      post({ cancelled: true });
      return saving;
    }
    const result = await saving.finish();
    const seconds = (performance.now() - began - paused) / 1000;
    post({ done: { file: result, ...counts, seconds } });
    return saving;
  }

  async* #numbered(clip, counts) {
    const detector = new SceneCutDetector();
    for await (const frame of clip.frames()) {
      const cut = detector.isCut(frame.rgb, frame.width, frame.height);
      counts.cuts += cut;
      yield { ...frame, cut };
    }
  }
}

function picture({ rgb, width, height }) {
  const data = new ImageData(width, height);
  for (let i = 0, from = 0; i < data.data.length; i += 4) {
    data.data[i] = rgb[from++];
    data.data[i + 1] = rgb[from++];
    data.data[i + 2] = rgb[from++];
    data.data[i + 3] = 255;
  }
  return data;
}
