// Frames of any size in tiles of the one size that the network takes, without seams.
//
// The same plan as keras_megan/video/tiles.py: tiles are spread evenly, the overlap is
// split in three, the outer thirds are thrown away, and across the middle one the tiles
// fade into each other along a half sine.

export const OVERLAP = 24;

/** Covers an axis: where tiles of `size` start. @returns {number[]} */
export function cover(length, size, overlap = OVERLAP) {
  if (length <= size) return [0];
  if (size < 2 * overlap + 4) throw new RangeError(`a tile of ${size} is too small`);
  const count = Math.ceil((length - overlap) / (size - overlap));
  const last = length - size;
  return Array.from({ length: count }, (_, i) => Math.round((i * last) / (count - 1)));
}

/** One weight for each output pixel of each tile; they sum to 1. @returns {Float32Array[]} */
export function weights(starts, size, scale) {
  const raw = starts.map((start, i) => {
    const weight = new Float64Array(size * scale).fill(1);
    const ramp = (overlap, at) => {
      const position = (at + 0.5) / (overlap * scale);
      return Math.sin((Math.PI / 2) * Math.min(1, Math.max(0, 3 * position - 1))) ** 2;
    };
    if (i > 0) {
      const overlap = starts[i - 1] + size - start;
      for (let k = 0; k < overlap * scale; k++) weight[k] *= ramp(overlap, k);
    }
    if (i + 1 < starts.length) {
      const overlap = start + size - starts[i + 1];
      const end = weight.length - 1;
      for (let k = 0; k < overlap * scale; k++) weight[end - k] *= ramp(overlap, k);
    }
    return weight;
  });
  const total = new Float64Array((starts.at(-1) + size) * scale);
  raw.forEach((weight, i) => weight.forEach((w, k) => {
    total[starts[i] * scale + k] += w;
  }));
  return raw.map((weight, i) => Float32Array.from(
    weight, (w, k) => w / total[starts[i] * scale + k],
  ));
}

/** Of several models, the one that covers a frame with the least work. */
export function bestModel(models, width, height) {
  const work = ({ width: w, height: h }) => (
    cover(width, w).length * cover(height, h).length * w * h
  );
  const fits = models.filter((m) => (
    (width <= m.width || m.width >= 2 * OVERLAP + 4)
    && (height <= m.height || m.height >= 2 * OVERLAP + 4)
  ));
  return fits.sort((a, b) => work(a) - work(b))[0] ?? null;
}

/** Runs a network that takes T tiles of one size on T whole frames. */
export class TiledNetwork {
  /**
   * @param {(frames: Float32Array) => Promise<Float32Array>} run
   * @param {{width, height, framesIn, framesOut, scale}} model
   */
  constructor(run, model, width, height) {
    Object.assign(this, { run, model, width, height });
    this.rows = cover(height, model.height);
    this.columns = cover(width, model.width);
    this.rowWeights = weights(this.rows, model.height, model.scale);
    this.columnWeights = weights(this.columns, model.width, model.scale);
    this.input = new Float32Array(model.framesIn * model.height * model.width * 3);
    const wide = Math.max(width, this.columns.at(-1) + model.width) * model.scale;
    this.rowLength = wide * 3;
    // One row of tiles of all frames, blended along the row.
    this.strip = new Float32Array(
      model.framesOut * model.height * model.scale * this.rowLength,
    );
  }

  get tiles() {
    return this.rows.length * this.columns.length;
  }

  /**
   * @param {Uint8Array[]} frames T of RGB, height x width x 3.
   * @param {() => boolean} cancelled asked after each tile.
   * @returns {Promise<Uint8ClampedArray[]>} 2T-1 of RGBA.
   */
  async upscale(frames, cancelled = () => false) {
    const { model: { framesOut, scale, height: tall }, rows, strip } = this;
    const outWidth = this.width * scale;
    const outHeight = this.height * scale;
    const results = Array.from(
      { length: framesOut }, () => new Uint8ClampedArray(outWidth * outHeight * 4).fill(255),
    );
    strip.fill(0);
    const perFrame = tall * scale * this.rowLength;
    for (const [r, top] of rows.entries()) {
      for (const [c, left] of this.columns.entries()) {
        this.#cut(frames, top, left);
        this.#add(await this.run(this.input), r, c);
        if (cancelled()) return null;
      }
      const next = r + 1 < rows.length ? rows[r + 1] : this.height;
      const finished = Math.min(next, this.height) - top;
      for (let f = 0; f < framesOut; f++) {
        this.#finish(results[f], f * perFrame, top * scale, finished * scale, outWidth);
        // What is not finished moves up, to be added to by the next row of tiles.
        const done = Math.min(finished, tall) * scale * this.rowLength;
        const begin = f * perFrame;
        strip.copyWithin(begin, begin + done, begin + perFrame);
        strip.fill(0, begin + perFrame - done, begin + perFrame);
      }
    }
    return results;
  }

  #cut(frames, top, left) {
    const { input, width, height, model } = this;
    let to = 0;
    for (const frame of frames) {
      for (let y = 0; y < model.height; y++) {
        const row = Math.min(top + y, height - 1) * width;
        for (let x = 0; x < model.width; x++) {
          const from = (row + Math.min(left + x, width - 1)) * 3;
          input[to++] = frame[from] / 255;
          input[to++] = frame[from + 1] / 255;
          input[to++] = frame[from + 2] / 255;
        }
      }
    }
  }

  #add(output, r, c) {
    const { model: { framesOut, scale, width, height }, strip, rowLength } = this;
    const down = this.rowWeights[r];
    const across = this.columnWeights[c];
    const left = this.columns[c] * scale * 3;
    let from = 0;
    for (let f = 0; f < framesOut; f++) {
      for (let y = 0; y < height * scale; y++) {
        let to = (f * height * scale + y) * rowLength + left;
        for (let x = 0; x < width * scale; x++) {
          const weight = down[y] * across[x];
          strip[to++] += output[from++] * weight;
          strip[to++] += output[from++] * weight;
          strip[to++] += output[from++] * weight;
        }
      }
    }
  }

  #finish(result, begin, top, rows, outWidth) {
    const { strip, rowLength } = this;
    for (let y = 0; y < rows; y++) {
      let from = begin + y * rowLength;
      let to = (top + y) * outWidth * 4;
      for (let x = 0; x < outWidth; x++) {
        const red = strip[from++];
        const green = strip[from++];
        const blue = strip[from++];
        if (!(Number.isFinite(red + green + blue))) {
          throw new Error('the network computed values that are not numbers');
        }
        result[to] = red * 255;
        result[to + 1] = green * 255;
        result[to + 2] = blue * 255;
        to += 4;
      }
    }
  }
}
