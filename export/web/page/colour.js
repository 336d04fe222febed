// Between a decoder's YCbCr and RGB, the same in every browser and in megan's own tool.
//
// Browsers differ in how they enlarge chroma and round. Here, as in
// keras_megan/video/io/read.py, chroma is interpolated by a bicubic (Keys, a = -0.6) at
// full resolution, with the file's own matrix and range, and lies where MPEG-2 and H.264
// put it: at every second column, half-way between two rows. What is no 8-bit 4:2:0 is
// left to the browser.

const KR_KB = {
  bt709: [0.2126, 0.0722],
  bt470bg: [0.299, 0.114],
  smpte170m: [0.299, 0.114],
  'bt2020-ncl': [0.2627, 0.0593],
};

/** Matrix of a video: as tagged, else as players guess. */
export function matrixOf(tagged, width, height) {
  if (tagged in KR_KB) return tagged;
  return Math.min(width, height) >= 720 ? 'bt709' : 'smpte170m';
}

function bicubic(distance) {
  const d = Math.abs(distance);
  const a = -0.6;
  if (d < 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
  return a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a;
}

// Rows lie a quarter of a chroma pixel above or below the nearest one.
const ABOVE = [-1.75, -0.75, 0.25, 1.25].map(bicubic);
const BELOW = [...ABOVE].reverse();
// Columns lie on one, or half-way between two.
const BETWEEN = [-1.5, -0.5, 0.5, 1.5].map(bicubic);

/**
 * RGB of a decoded picture, upright.
 *
 * @param {boolean} flipped whether left and right change places, after turning.
 * @returns {Promise<{rgb, width, height}>}
 */
export async function toRgb(sample, tagged, flipped) {
  const { width, height } = sample.visibleRect;
  const buffer = new Uint8Array(sample.allocationSize());
  let rgb;
  if (['I420', 'I420A', 'NV12'].includes(sample.format)) {
    const layout = await sample.copyTo(buffer);
    const semi = sample.format === 'NV12';
    const planes = [0, 1, 2].map((p) => {
      const { offset, stride } = layout[semi ? Math.min(p, 1) : p];
      const step = semi && p ? 2 : 1;
      return { data: buffer, offset: offset + (semi && p === 2 ? 1 : 0), stride, step };
    });
    const full = tagged.fullRange ?? sample.colorSpace?.fullRange ?? false;
    rgb = fromPlanes(planes, width, height, matrixOf(tagged.matrix, width, height), full);
  } else {
    const options = { format: 'RGBA' };
    const pixels = new Uint8Array(sample.allocationSize(options));
    const [{ offset, stride }] = await sample.copyTo(pixels, options);
    rgb = new Uint8Array(width * height * 3);
    for (let y = 0, to = 0; y < height; y++) {
      for (let x = 0, from = offset + y * stride; x < width; x++, from += 4) {
        rgb[to++] = pixels[from];
        rgb[to++] = pixels[from + 1];
        rgb[to++] = pixels[from + 2];
      }
    }
  }
  const upright = turned(rgb, width, height, sample.rotation ?? 0);
  if (flipped) flip(upright);
  return upright;
}

/** 8-bit 4:2:0 planes -> RGB. */
export function fromPlanes(planes, width, height, matrix, full) {
  const [kr, kb] = KR_KB[matrix];
  const kg = 1 - kr - kb;
  const blue = enlarged(planes[1], width, height);
  const red = enlarged(planes[2], width, height);
  const [lumaGain, black, chromaGain] = full ? [1, 0, 1] : [255 / 219, 16, 255 / 224];
  const toRed = 2 * (1 - kr) * chromaGain;
  const toBlue = 2 * (1 - kb) * chromaGain;
  const redInGreen = (toRed * kr) / kg;
  const blueInGreen = (toBlue * kb) / kg;
  const rgb = new Uint8ClampedArray(width * height * 3);
  const { data, offset, stride } = planes[0];
  let to = 0;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const luma = (data[offset + y * stride + x] - black) * lumaGain;
      const cb = blue[at] - 128;
      const cr = red[at] - 128;
      rgb[to++] = luma + toRed * cr;
      rgb[to++] = luma - blueInGreen * cb - redInGreen * cr;
      rgb[to++] = luma + toBlue * cb;
    }
  }
  return new Uint8Array(rgb.buffer);
}

function enlarged({ data, offset, stride, step }, width, height) {
  const wide = Math.ceil(width / 2);
  const tall = Math.ceil(height / 2);
  const rows = new Float32Array(tall * width);
  for (let y = 0; y < tall; y++) {
    const begin = offset + y * stride;
    for (let x = 0; x < width; x += 2) rows[y * width + x] = data[begin + (x >> 1) * step];
    for (let x = 1; x < width; x += 2) {
      let sum = 0;
      for (let k = 0; k < 4; k++) {
        const column = Math.min(wide - 1, Math.max(0, (x >> 1) - 1 + k));
        sum += BETWEEN[k] * data[begin + column * step];
      }
      rows[y * width + x] = sum;
    }
  }
  const out = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const taps = y % 2 ? BELOW : ABOVE;
    const first = (y >> 1) - 2 + (y % 2);
    for (let k = 0; k < 4; k++) {
      const row = Math.min(tall - 1, Math.max(0, first + k)) * width;
      for (let x = 0; x < width; x++) out[y * width + x] += taps[k] * rows[row + x];
    }
  }
  return out;
}

function turned(rgb, width, height, clockwise) {
  if (!clockwise) return { rgb, width, height };
  const swap = clockwise % 180 !== 0;
  const [wide, tall] = swap ? [height, width] : [width, height];
  const out = new Uint8Array(rgb.length);
  for (let y = 0; y < tall; y++) {
    for (let x = 0; x < wide; x++) {
      let from;
      if (clockwise === 90) from = (height - 1 - x) * width + y;
      else if (clockwise === 180) from = (height - 1 - y) * width + (width - 1 - x);
      else from = x * width + (width - 1 - y);
      out.set(rgb.subarray(from * 3, from * 3 + 3), (y * wide + x) * 3);
    }
  }
  return { rgb: out, width: wide, height: tall };
}

function flip({ rgb, width, height }) {
  for (let y = 0; y < height; y++) {
    let [left, right] = [3 * y * width, 3 * ((y + 1) * width - 1)];
    for (; left < right; left += 3, right -= 3) {
      for (let c = 0; c < 3; c++) {
        [rgb[left + c], rgb[right + c]] = [rgb[right + c], rgb[left + c]];
      }
    }
  }
}

/** RGBA of even size -> a VideoFrame in BT.709, limited range. */
export function toVideoFrame(rgba, width, height, timestamp, duration) {
  const [kr, kb] = KR_KB.bt709;
  const kg = 1 - kr - kb;
  const pixels = width * height;
  const data = new Uint8ClampedArray(pixels * 1.5);
  for (let i = 0, from = 0; i < pixels; i++, from += 4) {
    const luma = kr * rgba[from] + kg * rgba[from + 1] + kb * rgba[from + 2];
    data[i] = 16 + (luma * 219) / 255;
  }
  let to = pixels;
  const quarter = pixels / 4;
  const line = width * 4;
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2, to++) {
      // Where H.264 puts it: on the left column of two, half-way between two rows.
      const here = y * line + 4 * x;
      const left = x ? here - 4 : here;
      const mean = (c) => (
        rgba[left + c] + 2 * rgba[here + c] + rgba[here + 4 + c]
        + rgba[left + line + c] + 2 * rgba[here + line + c] + rgba[here + line + 4 + c]
      ) / 8;
      const [red, green, blue] = [mean(0), mean(1), mean(2)];
      const luma = kr * red + kg * green + kb * blue;
      data[to] = 128 + ((blue - luma) * 112) / (255 * (1 - kb));
      data[to + quarter] = 128 + ((red - luma) * 112) / (255 * (1 - kr));
    }
  }
  return new VideoFrame(data, {
    format: 'I420',
    codedWidth: width,
    codedHeight: height,
    timestamp: Math.round(timestamp * 1e6),
    duration: Math.round(duration * 1e6),
    colorSpace: {
      matrix: 'bt709', primaries: 'bt709', transfer: 'bt709', fullRange: false,
    },
  });
}
