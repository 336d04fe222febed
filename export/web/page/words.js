// Words and numbers for people.

/** What browsers may lack, and what is said then. */
export const SUPPORT = [
  {
    needed: true,
    there: () => 'VideoDecoder' in self && 'VideoEncoder' in self,
    otherwise: 'This browser has no WebCodecs, so it can neither open nor save videos '
      + 'here; a current Chrome, Edge or Safari can, and Firefox on computers.',
  },
  {
    there: () => self.crossOriginIsolated,
    otherwise: 'This address is served without the headers that share memory among '
      + 'threads, so without a GPU the page runs on one core only.',
  },
  {
    there: () => Boolean(navigator.gpu),
    otherwise: 'This browser has no WebGPU, so the network runs on the processor, which '
      + 'is slower.',
  },
];

export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB'];
  let unit = 0;
  let value = count;
  while (value >= 1000 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toPrecision(2)} ${
    units[unit]}`;
}

export function speed(frames, seconds) {
  const rate = frames / seconds;
  return `${rate >= 10 ? Math.round(rate) : rate.toPrecision(2)} frames/s`;
}

export function clock(seconds) {
  if (!Number.isFinite(seconds)) return '-';
  const whole = Math.ceil(seconds);
  const [minutes, rest] = [Math.floor(whole / 60) % 60, whole % 60];
  const hours = Math.floor(whole / 3600);
  const two = (n) => String(n).padStart(2, '0');
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// With spaces at which lines are not broken.
export const pixels = ({ width, height }) => `${width}\u00a0\u00d7\u00a0${height}`;

const cores = (threads) => (threads > 1 ? `${threads} threads` : 'one thread');

export function runsOn({ accelerator, adapter, threads }) {
  if (accelerator === 'webgpu') return `your GPU by WebGPU${adapter && ` (${adapter})`}`;
  return `your processor by WebAssembly (${cores(threads)})`;
}

export function shortly({ accelerator, threads }) {
  return accelerator === 'webgpu' ? 'WebGPU'
    : `WebAssembly, ${cores(threads).replace(' ', '\u00a0')}`;
}
