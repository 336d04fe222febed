// Writes the result: an MP4, frame after frame, with the sound copied.
//
//   const saving = await Saving.begin(clip, width, height);
//   await saving.add(rgba, time, length);      as often as there are frames
//   const file = await saving.finish();
//
// It grows on the disk, or in memory where pages have no disk. Its clock ticks twice as
// fast as the clip's, so moments half-way between two frames are exact.

import { toVideoFrame } from './colour.js';
import { PrivateFile } from './disk.js';
import { Explained } from './explained.js';

const bunny = await import(new URL('vendor/mediabunny/mediabunny.js', import.meta.url));

const CODECS = { avc: 'H.264', vp9: 'VP9', av1: 'AV1' };
const QUALITY = bunny.QUALITY_VERY_HIGH;

export class Saving {
  notes = []; // sentences for the visitor

  /** @throws {Explained} if this browser encodes no video of that size. */
  static async begin(clip, width, height) {
    const saving = new Saving();
    Object.assign(saving, { clip, width, height, clock: 2 * clip.ticks });
    const codec = await saving.#chooseCodec();
    const target = await saving.#target();
    try {
      await saving.#start(codec, target);
    } catch (error) {
      await saving.abandon();
      throw error;
    }
    return saving;
  }

  async #start(codec, target) {
    const format = new bunny.Mp4OutputFormat({ fastStart: false });
    this.output = new bunny.Output({ format, target });
    this.video = new bunny.VideoSampleSource({
      codec,
      quality: QUALITY,
      onEncodedPacket: (_, meta) => Object.assign(meta?.decoderConfig ?? {}, this.#shape()),
    });
    this.output.addVideoTrack(this.video, { frameRate: this.clock });
    await this.#copySound(format);
    await this.output.start();
  }

  async #chooseCodec() {
    const { width, height } = this;
    for (const [codec, name] of Object.entries(CODECS)) {
      if (await bunny.canEncodeVideo(codec, { width, height, quality: QUALITY })) {
        this.codec = name;
        if (codec !== 'avc') {
          this.notes.push(`This browser does not encode H.264 at ${width} x ${height}; `
            + `the result is saved as ${name} in an MP4.`);
        }
        return codec;
      }
    }
    throw new Explained(`This browser encodes no video of ${width} x ${height} pixels; `
      + 'try a smaller video or another browser.');
  }

  /** What tells players the shape of pixels that are not square. */
  #shape() {
    const { width, height, clip: { pixelAspect: [wide, tall] } } = this;
    if (wide === tall) return {};
    return { displayAspectWidth: width * wide, displayAspectHeight: height * tall };
  }

  async #target() {
    this.file = await PrivateFile.open();
    if (!this.file) {
      this.notes.push('This browser gives the page no disk; the result stays in memory '
        + 'until you save it.');
      return new bunny.BufferTarget();
    }
    const writable = new WritableStream({
      write: ({ data, position }) => this.file.write(data, position),
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

  /** Adds one RGBA picture. @param {number} time and `length` in ticks of the clock. */
  async add(rgba, time, length) {
    const timestamp = time / this.clock;
    const duration = length / this.clock;
    const picture = toVideoFrame(rgba, this.width, this.height, timestamp, duration);
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
    if (this.file) return this.file.finish();
    return new Blob([this.output.target.buffer], { type: 'video/mp4' });
  }

  /** Gives up; nothing stays on the disk. */
  async abandon() {
    try {
      await this.packets?.return?.();
      if (!['finalized', 'canceled'].includes(this.output.state)) {
        await this.output.cancel();
      }
    } finally {
      this.file?.abandon();
    }
  }
}
