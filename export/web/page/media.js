// Reads video files with mediabunny, which uses the browser's own codecs.
//
//   const clip = await openClip(file, scale);         facts about it; throws `Explained`
//   for await (const frame of clip.frames()) ...      RGB with exact times
//
// Times are whole numbers of the file's own ticks, never index / rate.

import { toRgb } from './colour.js';
import { Explained } from './explained.js';

const bunny = await import(new URL('vendor/mediabunny/mediabunny.js', import.meta.url));

// A result of more pixels is beyond what browsers encode and memory holds.
export const MOST_PIXELS = 4096 * 2304;
// WebCodecs counts microseconds; finer ticks than this could not be told apart.
const FINEST = 250_000;

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
  const { num, den } = await track.getPixelAspectRatio();
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
    pixelAspect: turned ? [den, num] : [num, den], // width to height
    flipped: await track.getFlip(),
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
        let frame;
        try {
          frame = await this.#frame(sample);
        } finally {
          sample.close();
        }
        count += 1;
        if (held && frame.time <= held.time) continue; // a repeated time stamp
        if (held) yield { ...held, end: frame.time, last: false };
        held = frame;
      }
    } catch (error) {
      // Not the file's fault: what is explained already, or too little memory.
      if (error instanceof Explained || error instanceof RangeError) throw error;
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
    const { rgb, width, height } = await toRgb(sample, this.colour, this.flipped);
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
