// Loads the page where a GPU is right, where one is not, and where things are missing.
//
//   {address, right, trap: models as site.json describes them, seen: path}

import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { job, withChromium } = await import(
  pathToFileURL(`${process.env.MEGAN_BROWSER}/chromium.mjs`));

const VISITS = {
  right: { model: job.right },
  // Says nothing but on the console, and computes nonsense.
  trap: { model: job.trap },
  // Says nothing at all.
  silent: { model: job.right, alter: true },
  alone: { model: job.trap, withhold: ['cross-origin-opener-policy'] },
  codecless: { model: job.right, remove: ['VideoEncoder'] },
};

async function visit(browser, { model, alter, withhold = [], remove = [] }) {
  const page = await browser.newPage();
  page.setDefaultTimeout(240_000);
  await page.addInitScript((names) => {
    for (const name of names) delete globalThis[name];
  }, remove);
  await page.route('**/site.json', async (route) => {
    const response = await route.fetch();
    const site = await response.json();
    await route.fulfill({ response, json: { ...site, models: [model] } });
  });
  await page.route('**/index.html', async (route) => {
    const response = await route.fetch();
    const headers = Object.entries(response.headers()).filter(
      ([name]) => !withhold.includes(name));
    await route.fulfill({ response, headers: Object.fromEntries(headers) });
  });
  let asked = 0;
  await page.route('**/*.answer', async (route) => {
    asked += 1;
    const response = await route.fetch();
    const body = await response.body();
    if (alter && asked === 1) new Float32Array(body.buffer, body.byteOffset, 1)[0] += 0.5;
    await route.fulfill({ response, body });
  });
  await page.goto(`${job.address}/index.html`);
  await page.waitForSelector('body[data-ready]');
  const seen = {
    asked,
    engine: await page.textContent('#engine'),
    accelerator: await page.evaluate(() => document.body.dataset.engine),
    notes: await page.textContent('#notes'),
    problem: await page.textContent('#problem'),
  };
  await page.close();
  return seen;
}

await withChromium(async (browser) => {
  const seen = {};
  for (const [name, how] of Object.entries(VISITS)) seen[name] = await visit(browser, how);
  writeFileSync(job.seen, JSON.stringify(seen));
});
