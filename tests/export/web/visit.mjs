// What a visitor does with the page; writes down what there was to see.
//
//   {address, browser, good, long, broken: [path], frames: folder, saved, seen: path}

import { mkdirSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { job, withChromium } = await import(
  pathToFileURL(`${process.env.MEGAN_BROWSER}/chromium.mjs`));
const LONG = 240_000;

async function visit(browser) {
  const page = await browser.newPage({ viewport: { width: 900, height: 900 } });
  const seen = { errors: [], sentences: {} };
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('console', (message) => {
    if (/Content Security|Refused|violates/.test(message.text())) {
      seen.errors.push(message.text());
    }
  });
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== job.address) {
      seen.errors.push(`asked ${request.url()}`);
    }
  });
  page.setDefaultTimeout(LONG);
  await page.addInitScript(() => {
    globalThis.taken = [];
    globalThis.count = 0;
    addEventListener('megan-frame', ({ detail }) => {
      globalThis.count += 1;
      globalThis.taken.push({ index: detail.index, held: detail.held });
      if (!globalThis.keep) return;
      const { width, height } = detail.after;
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext('2d');
      context.drawImage(detail.after, 0, 0);
      const { data } = context.getImageData(0, 0, width, height);
      Object.assign(globalThis.taken.at(-1), { data, width, height });
    });
  });
  const state = (...wanted) => page.waitForFunction(
    (names) => names.includes(document.body.dataset.state), wanted);
  const text = (id) => page.textContent(id);
  const give = async (path) => {
    await page.evaluate(() => { delete document.body.dataset.state; });
    await page.setInputFiles('#file', path);
  };

  await page.goto(`${job.address}/index.html`);
  await page.waitForSelector('body[data-ready]');
  seen.engine = await text('#engine');
  seen.isolated = await page.evaluate(() => globalThis.crossOriginIsolated);

  // A clip, all of it, and what was saved.
  await page.evaluate(() => { globalThis.keep = true; });
  await give(job.good);
  await state('done', 'failed');
  seen.problem = await text('#problem');
  seen.notes = await text('#notes');
  const frames = await page.evaluate(() => globalThis.taken.map(
    ({ data, ...rest }) => rest));
  mkdirSync(job.frames, { recursive: true });
  for (const [number, { index }] of frames.entries()) {
    const bytes = await page.evaluate((n) => {
      const { data } = globalThis.taken[n];
      let all = '';
      for (let i = 0; i < data.length; i += 8192) {
        all += String.fromCharCode(...data.subarray(i, i + 8192));
      }
      return btoa(all);
    }, number);
    writeFileSync(`${job.frames}/${index}.rgba`, Buffer.from(bytes, 'base64'));
  }
  seen.frames = frames;
  const [download] = await Promise.all([
    page.waitForEvent('download'), page.click('#save')]);
  seen.name = download.suggestedFilename();
  await download.saveAs(job.saved);

  // The line between before and after; the picture under it.
  const picture = () => page.evaluate(() => {
    const canvas = document.getElementById('picture');
    const { data } = canvas.getContext('2d').getImageData(
      0, 0, canvas.width, canvas.height);
    const last = globalThis.taken.filter(
      ({ index }) => `${index + 1} ` === document.getElementById('at').textContent
        .slice(0, `${index + 1} `.length)).at(-1);
    return data.reduce((sum, value, i) => sum + Math.abs(value - last.data[i]), 0);
  });
  await page.click('#pause');
  await page.focus('#split');
  await page.keyboard.press('Home');
  seen.differenceAfter = await picture();
  await page.keyboard.press('End');
  seen.differenceBefore = await picture();
  const at = () => page.textContent('#at').then(parseFloat);
  const line = () => page.evaluate(() => parseFloat(
    document.getElementById('stage').style.getPropertyValue('--split')));
  seen.lineAtEnd = await line();
  await page.keyboard.press('ArrowLeft');
  seen.lineMoved = await line();
  const here = await at();
  await page.keyboard.press(',');
  seen.back = (await at()) - here;
  await page.keyboard.press('.');
  seen.forth = (await at()) - here;
  await page.keyboard.press('+');
  seen.zoomed = await text('#zoom');
  await page.keyboard.press('-');
  seen.unzoomed = await text('#zoom');

  // Files that are no good, each followed by one that is not bothered by it.
  for (const path of job.broken) {
    await give(path);
    await state('failed', 'done');
    seen.sentences[path] = await text('#problem');
  }

  // A long one: paused by the keyboard, gone on with, and its memory.
  await page.evaluate(() => {
    [globalThis.keep, globalThis.taken, globalThis.count] = [false, [], 0];
  });
  const bytes = () => page.evaluate(
    async () => (await performance.measureUserAgentSpecificMemory()).bytes);
  await give(job.long);
  await page.waitForFunction(() => globalThis.count >= 60);
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press(' ');
  seen.pauseButton = await text('#pause');
  await page.waitForSelector('body[data-paused]');
  seen.pausedAt = await page.evaluate(() => globalThis.count);
  seen.bytesThen = await bytes();
  seen.stillAt = await page.evaluate(() => globalThis.count);
  seen.pausedState = await page.evaluate(() => document.body.dataset.state);
  await page.keyboard.press(' ');
  await state('done', 'failed');
  seen.bytesLater = await bytes();
  seen.longFrames = await page.evaluate(() => globalThis.count);
  seen.longProblem = await text('#problem');
  return seen;
}

await withChromium(async (browser) => {
  writeFileSync(job.seen, JSON.stringify(await visit(browser)));
}, { gpu: false });
