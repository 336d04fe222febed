// Visits the page with a GPU whose first answer seems wrong.
//
//   {address, seen: path}

import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { job, withChromium } = await import(
  pathToFileURL(`${process.env.MEGAN_BROWSER}/chromium.mjs`));

await withChromium(async (browser) => {
  const page = await browser.newPage();
  page.setDefaultTimeout(240_000);
  let asked = 0;
  await page.route('**/*.answer', async (route) => {
    asked += 1;
    const response = await route.fetch();
    const body = await response.body();
    if (asked === 1) new Float32Array(body.buffer, body.byteOffset, 1)[0] += 0.5;
    await route.fulfill({ response, body });
  });
  await page.goto(`${job.address}/index.html`);
  await page.waitForSelector('body[data-ready]');
  writeFileSync(job.seen, JSON.stringify({
    asked,
    engine: await page.textContent('#engine'),
    accelerator: await page.evaluate(() => document.body.dataset.engine),
    problem: await page.textContent('#problem'),
  }));
});
