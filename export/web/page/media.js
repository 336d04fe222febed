// Reads and writes video files with mediabunny, which uses the browser's own codecs.
//
//   const clip = await openClip(file);     facts about it; throws `Explained`
//   for await (const frame of clip.frames()) ...      RGB with exact times
//   const save = await Saving.begin(clip, ...);       an MP4, frame after frame
//
// Times are whole numbers of the file's own ticks, never index / rate.

import { toRgb, toVideoFrame } from './colour.js';
import { Explained } from './explained.js';

const bunny = await import(new URL('vendor/mediabunny/mediabunny.js', import.meta.url));

// A result of more pixels is beyond what browsers encode and memory holds.
export const MOST_PIXELS = 4096 * 2304;
// WebCodecs counts microseconds; finer ticks than this could not be told apart.
const FINEST = 250_000;
const CODECS = { avc: 'H.264', vp9: 'VP9', av1: 'AV1' };
const RESULT = 'megan-result';

/** Opens a file. @throws {Explained} if it is not a video that can be upscaled here. */
export async function openClip(file, scale) {
  const input = new bunny.Input({
    source: new bunny.BlobSource(file), formats: bunny.ALL_FORMATS,
  });
  const name = `"${file.name ?? 'The sample'}"`;
  try {
    return await look(input, name, scale);
  } catch (error) {
    input.dispose();
    if (error instanceof Explained) throw error;
    throw new Explained(`${name} is damaged or cut short: ${error.message ?? error}.`);
  }
}

async function look(input, name, scale) {
  if (!(await input.canRead())) {
    throw new Explained(`${name} is not a video that browsers can read; give an MP4, `
      + 'MOV, WebM, MKV or TS file.');
  }
  const track = await input.getPrimaryVideoTrack();
  if (!track && !(await input.getTracks()).length) {
    throw new Explained(`${name} is cut short or damaged: it does not say what it holds.`);
  }
  if (!track) {
    throw new Explained(`${name} has no video track, only sound; give a video.`);
  }
  const codec = await track.getCodec();
  if (!(await track.canDecode())) {
    throw new Explained(`This browser cannot decode ${codec ?? 'the codec'} of ${name}; `
      + 'try another browser, or convert it to H.264.');
  }
  if (await track.hasHighDynamicRange()) {
    throw new Explained(`${name} is an HDR video, whose colours would come out wrong; `
      + 'convert it to SDR first.');
  }
  const turned = (await track.getRotation()) % 180 !== 0;
  const stored = [await track.getCodedWidth(), await track.getCodedHeight()];
  const [width, height] = turned ? stored.reverse() : stored;
  if (width * height * scale ** 2 > MOST_PIXELS) {
    const most = Math.sqrt(MOST_PIXELS / scale ** 2 / (16 / 9));
    throw new Explained(`${name} is ${width} x ${height}; the page enlarges videos of up `
      + `to about ${Math.floor((most * 16) / 9)} x ${Math.floor(most)} pixels.`);
  }
  const isMp4 = (await input.getFormat()) instanceof bunny.IsobmffInputFormat;
  const duration = await track.computeDuration();
  const stats = await track.computePacketStats(isMp4 ? undefined : 100);
  const start = await track.getFirstTimestamp();
  return new Clip({
    input,
    track,
    name,
    codec,
    width,
    height,
    start,
    duration,
    ticks: Math.min(FINEST, Math.round(await track.getTimeResolution())),
    colour: await track.getColorSpace(),
    audio: await input.getPrimaryAudioTrack(),
    frameCount: isMp4 ? stats.packetCount : null,
    expected: isMp4 ? stats.packetCount
      : Math.max(1, Math.round(stats.averagePacketRate * (duration - start))),
  });
}

class Clip {
  opened = 0; // decoded pictures that are not yet closed

  constructor(facts) {
    Object.assign(this, facts);
  }

  /** Frames in order: {rgb, time, end, last}, with times in ticks. */
  async* frames() {
    const sink = new bunny.VideoSampleSink(this.track);
    const samples = sink.samples();
    let held = null;
    let count = 0;
    try {
      for (;;) {
        const { value: sample, done } = await samples.next();
        if (done) break;
        this.opened += 1;
        let frame;
        try {
          frame = await this.#frame(sample);
        } finally {
          sample.close();
          this.opened -= 1;
        }
        count += 1;
        if (held && frame.time <= held.time) continue; // a repeated time stamp
        if (held) yield { ...held, end: frame.time, last: false };
        held = frame;
      }
    } catch (error) {
      if (error instanceof Explained) throw error;
      throw new Explained(`${this.name} is damaged: frame ${count} cannot be decoded.`);
    } finally {
      await samples.return();
    }
    if (!held) throw new Explained(`${this.name} has no frame that can be decoded.`);
    if (this.frameCount && count < this.frameCount - 1) {
      throw new Explained(`${this.name} is damaged: only ${count} of ${this.frameCount} `
        + 'frames can be decoded.');
    }
    yield { ...held, last: true };
  }

  async #frame(sample) {
    const { rgb, width, height } = await toRgb(sample, this.colour);
    if (width !== this.width || height !== this.height) {
      throw new Explained(`${this.name} has a picture of ${width} x ${height} where `
        + `${this.width} x ${this.height} was declared; split it there.`);
    }
    const time = Math.round(sample.timestamp * this.ticks);
    const length = Math.max(1, Math.round(sample.duration * this.ticks));
    return { rgb, width, height, time, end: time + length };
  }

  close() {
    this.input.dispose();
  }
}

/** An MP4 that grows on the disk, or in memory where pages have no disk. */
export class Saving {
  /** Clips are saved in half ticks, so that moments half-way are exact. */
  static async begin(clip, width, height) {
    const saving = new Saving();
    saving.notes = [];
    saving.clip = clip;
    saving.clock = 2 * clip.ticks;
    let codec = null;
    for (const candidate of Object.keys(CODECS)) {
      const able = await bunny.canEncodeVideo(candidate, {
        width, height, quality: bunny.QUALITY_VERY_HIGH,
      });
      if (able) {
        codec = candidate;
        break;
      }
    }
    if (!codec) {
      throw new Explained(`This browser encodes no video of ${width} x ${height} pixels; `
        + 'try a smaller video or another browser.');
    }
    saving.codec = CODECS[codec];
    if (codec !== 'avc') {
      saving.notes.push(`This browser does not encode H.264 at ${width} x ${height}; `
        + `the result is saved as ${CODECS[codec]} in an MP4.`);
    }
    const target = await saving.#target();
    const format = new bunny.Mp4OutputFormat({ fastStart: false });
    saving.output = new bunny.Output({ format, target });
    saving.video = new bunny.VideoSampleSource({ codec, quality: bunny.QUALITY_VERY_HIGH });
    saving.output.addVideoTrack(saving.video, { frameRate: saving.clock });
    await saving.#copySound(format);
    await saving.output.start();
    return saving;
  }

  async #target() {
    try {
      const root = await navigator.storage.getDirectory();
      this.file = await root.getFileHandle(RESULT, { create: true });
      this.access = await this.file.createSyncAccessHandle();
      this.access.truncate(0);
    } catch {
      this.notes.push('This browser gives the page no disk; the result stays in memory '
        + 'until you save it.');
      this.access = null;
      return new bunny.BufferTarget();
    }
    const writable = new WritableStream({
      write: ({ data, position }) => {
        this.access.write(data, { at: position });
      },
    });
    return new bunny.StreamTarget(writable, { chunked: true, chunkSize: 2 ** 20 });
  }

  async #copySound(format) {
    const { audio } = this.clip;
    if (!audio) return;
    const codec = await audio.getCodec();
    const config = await audio.getDecoderConfig();
    if (!config || !format.getSupportedAudioCodecs().includes(codec)) {
      this.notes.push(`The sound, ${codec ?? 'of an unknown codec'}, cannot be put into `
        + 'an MP4 and is left out.');
      return;
    }
    this.sound = new bunny.EncodedAudioPacketSource(codec);
    this.packets = new bunny.EncodedPacketSink(audio).packets();
    this.meta = { decoderConfig: config };
    this.output.addAudioTrack(this.sound);
  }

  /** Adds one picture. @param {number} time and `length` in half ticks. */
  async add(rgba, width, height, time, length) {
    const timestamp = time / this.clock;
    const duration = length / this.clock;
    const picture = toVideoFrame(rgba, width, height, timestamp, duration);
    const sample = new bunny.VideoSample(picture, { timestamp, duration });
    try {
      await this.video.add(sample);
    } finally {
      sample.close();
    }
    await this.#soundUntil(timestamp + 1);
  }

  async #soundUntil(time) {
    while (this.packets) {
      const packet = this.next ?? (await this.packets.next()).value;
      this.next = null;
      if (!packet) {
        this.packets = null;
      } else if (packet.timestamp > time) {
        this.next = packet;
        return;
      } else {
        await this.sound.add(packet, this.meta);
      }
    }
  }

  /** @returns {Promise<File|Blob>} */
  async finish() {
    await this.#soundUntil(Infinity);
    await this.output.finalize();
    if (!this.access) return new Blob([this.output.target.buffer], { type: 'video/mp4' });
    this.access.flush();
    this.access.close();
    this.access = null;
    return this.file.getFile();
  }

  /** Gives up; nothing stays on the disk. */
  async abandon() {
    await this.packets?.return?.();
    if (!['finalized', 'canceled'].includes(this.output?.state)) {
      await this.output?.cancel();
    }
    this.access?.close();
    this.access = null;
  }
}
