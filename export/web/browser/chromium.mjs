// Headless Chromium through playwright-core, with WebGPU on the CPU.
//
// Every program here is started by Python as `node PROGRAM JOB.json`, ends within the
// job's own time or when Python is gone, and closes its browser in all cases. When node
// itself is killed, the browser sees its pipe close and ends, too.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const WITHOUT_A_GPU = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  '--use-vulkan=swiftshader',
  '--ignore-gpu-blocklist',
];
const IN_CONTAINERS = ['--disable-dev-shm-usage'];

/** The job that Python wrote: {packages, chromium, seconds, ...}. */
export const job = JSON.parse(readFileSync(process.argv[2], 'utf8'));

/**
 * Runs `use(browser)` and closes the browser, whatever happens.
 *
 * A failure is printed as one line that starts with "failed: ", with exit status 3.
 */
export async function withChromium(use, options = {}) {
  const require = createRequire(path.join(job.packages, 'package.json'));
  const { chromium } = require('playwright-core');
  let browser;
  const overdue = setTimeout(() => finish(`no result within ${job.seconds} seconds`),
    job.seconds * 1000);
  process.stdin.on('end', () => finish('what started this is gone')).resume();
  async function finish(failure) {
    clearTimeout(overdue);
    if (failure) console.error(`failed: ${String(failure).replace(/\s+/g, ' ')}`);
    await Promise.race([browser?.close(), new Promise((r) => setTimeout(r, 5000))])
      .catch(() => {});
    process.exit(failure ? 3 : 0);
  }
  try {
    browser = await chromium.launch({
      executablePath: job.chromium,
      args: [...(options.gpu === false ? [] : WITHOUT_A_GPU), ...IN_CONTAINERS],
      timeout: 30_000,
    });
    await use(browser);
    await finish();
  } catch (error) {
    await finish(error?.stack ?? error);
  }
}
