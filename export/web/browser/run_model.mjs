// Runs a .tflite file in the browser, as the page itself would.
//
//   {address, model, accelerator, inputs: [URL], outputs: [path], result: path, ...}
//
// The windows run one after another on one compiled model: some faults of GPU runtimes
// show in the first run only, others in all but the first. Writes each output as raw
// float32, and {fullyAccelerated, console, seconds} as JSON.

import { writeFileSync } from 'node:fs';
import { job, withChromium } from './chromium.mjs';

await withChromium(async (browser) => {
  const page = await browser.newPage();
  const heard = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) heard.push(message.text());
  });
  page.on('pageerror', (error) => heard.push(String(error)));
  await page.goto(`${job.address}/blank.html`);
  await page.evaluate((script) => {
    const worker = new Worker(script);
    const waiting = [];
    worker.onmessage = ({ data }) => waiting.shift()(data);
    worker.onerror = (event) => waiting.shift()?.({ failure: event.message });
    globalThis.ask = async (message) => {
      const answer = await new Promise((resolve) => {
        waiting.push(resolve);
        worker.postMessage(message);
      });
      if (answer.failure) throw new Error(answer.failure);
      if (!answer.bytes) return answer;
      const url = await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.readAsDataURL(new Blob([answer.bytes]));
      });
      return { ...answer, bytes: url.slice(url.indexOf(',') + 1) };
    };
  }, 'model_worker.js');
  const ask = (message) => page.evaluate((m) => globalThis.ask(m), message);
  const opened = await ask({ model: job.model, accelerator: job.accelerator });
  const seconds = [];
  for (const [number, input] of job.inputs.entries()) {
    const answer = await ask({ input });
    seconds.push(answer.seconds);
    writeFileSync(job.outputs[number], Buffer.from(answer.bytes, 'base64'));
  }
  const { errors } = await ask({ close: true });
  writeFileSync(job.result, JSON.stringify({
    fullyAccelerated: opened.fullyAccelerated,
    adapter: opened.adapter,
    console: [...heard, ...errors],
    seconds,
  }));
});
