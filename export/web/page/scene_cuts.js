// Scene cuts, so that no frame is invented between two scenes.
//
// The same score as keras_megan/video/scene_cuts.py: the geometric mean of how much the
// colours at each place changed beyond what they changed before, and of how much the
// histogram changed, on a thumbnail of 64x36.

export const THRESHOLD = 16;
const WIDE = 64;
const TALL = 36;
const BINS = 16;

export class SceneCutDetector {
  #thumbnail = null;

  #histogram = null;

  #change = 0;

  /** Whether an RGB frame opens a new scene; the first one never does. */
  isCut(rgb, width, height) {
    const { planes, histogram } = describe(rgb, width, height);
    let cut = false;
    if (this.#thumbnail) {
      let sum = 0;
      for (let i = 0; i < WIDE * TALL; i++) {
        sum += Math.abs(planes[0][i] - this.#thumbnail[0][i]);
      }
      const change = Math.min(1, (2 * sum) / (255 * WIDE * TALL));
      const fresh = Math.max(0, change - this.#change);
      let moved = 0;
      histogram.forEach((bins, channel) => {
        let running = 0;
        let total = 0;
        bins.forEach((count, b) => {
          running += count - this.#histogram[channel][b];
          total += Math.abs(running);
        });
        moved = Math.max(moved, total);
      });
      moved = Math.min(1, (4 * moved) / BINS);
      this.#change = change;
      cut = 100 * Math.sqrt(fresh * moved) >= THRESHOLD;
      if (cut) this.#change = 0; // the new scene's motion is yet unknown
    }
    this.#thumbnail = planes;
    this.#histogram = histogram;
    return cut;
  }
}

function describe(rgb, width, height) {
  const planes = [0, 1, 2].map(() => new Uint8ClampedArray(WIDE * TALL));
  const columns = shares(width, WIDE);
  const rows = shares(height, TALL);
  for (let y = 0; y < TALL; y++) {
    for (let x = 0; x < WIDE; x++) {
      const sum = [0, 0, 0];
      for (const [row, down] of rows[y]) {
        for (const [column, across] of columns[x]) {
          const at = (row * width + column) * 3;
          const share = down * across;
          sum[0] += rgb[at] * share;
          sum[1] += rgb[at + 1] * share;
          sum[2] += rgb[at + 2] * share;
        }
      }
      const [red, green, blue] = sum.map(Math.round);
      const luma = 0.299 * red + 0.587 * green + 0.114 * blue;
      planes[0][y * WIDE + x] = luma;
      planes[1][y * WIDE + x] = (red - luma) * 0.713 + 128;
      planes[2][y * WIDE + x] = (blue - luma) * 0.564 + 128;
    }
  }
  const histogram = planes.map((plane) => {
    const bins = new Float64Array(BINS);
    for (const value of plane) {
      bins[Math.min(BINS - 1, Math.floor((value / 255) * BINS))] += 1 / plane.length;
    }
    return bins;
  });
  return { planes, histogram };
}

/** For each of `count` places, the pixels below it and their shares. */
function shares(length, count) {
  return Array.from({ length: count }, (_, i) => {
    const begin = (i * length) / count;
    const end = ((i + 1) * length) / count;
    const found = [];
    for (let pixel = Math.floor(begin); pixel < end; pixel++) {
      const part = Math.min(end, pixel + 1) - Math.max(begin, pixel);
      if (part > 1e-9) found.push([pixel, part / (end - begin)]);
    }
    return found;
  });
}
