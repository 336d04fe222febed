// What a visitor does with the page; writes down what there was to see.
//
//   {address, good, long, huge, refused: [path], frames: folder, saved, seen: path}

import { mkdirSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { job, withChromium } = await import(
  pathToFileURL(`${process.env.MEGAN_BROWSER}/chromium.mjs`));
const LONG = 240_000;
const PAUSED_AT = 60;
const PATIENCE = 120_000;
const seen = { errors: [], sentences: {}, seconds: {} };
let page;

// What the page is asked for.
const state = (...wanted) => page.waitForFunction(
  (names) => names.includes(document.body.dataset.state), wanted);
const text = (id) => page.textContent(`#${id}`);
const at = () => text('at').then(parseFloat);
const count = () => page.evaluate(() => globalThis.count);
const give = async (path) => {
  await page.evaluate(() => { delete document.body.dataset.state; });
  await page.setInputFiles('#file', path);
};
/** The worker's answer to a word, said until it is heard; see watched_worker.js. */
const ask = async (word) => {
  await page.waitForSelector('body[data-engine]');
  return page.evaluate(([asked, patience]) => new Promise((resolve, reject) => {
    const channel = new BroadcastChannel('watched');
    const again = setInterval(() => channel.postMessage(asked), 2000);
    const end = (how, value) => {
      clearInterval(again);
      channel.close();
      how(value);
    };
    channel.onmessage = ({ data }) => end(resolve, data);
    setTimeout(() => end(reject, new Error(`no answer to "${asked}"`)), patience);
    channel.postMessage(asked);
  }), [word, PATIENCE]);
};

/**
 * Bytes after garbage is collected: what JavaScript holds in the page and in its worker,
 * the WebAssembly, and how many pictures for the screen are not closed.
 *
 * `performance.measureUserAgentSpecificMemory` would wait a minute for the network's
 * threads, which sleep.
 */
async function memory() {
  const session = await page.context().newCDPSession(page);
  const held = ({ usedSize, embedderHeapUsedSize, backingStorageSize }) => (
    usedSize + embedderHeapUsedSize + backingStorageSize);
  const usage = async (send) => {
    await send('HeapProfiler.collectGarbage');
    return held(await send('Runtime.getHeapUsage'));
  };
  let heaps = await usage((method) => session.send(method));
  const workers = [];
  let asked = 0;
  // A message to a worker can get lost: it is sent again until there is an answer.
  const askWorker = (sessionId, method) => new Promise((resolve, reject) => {
    const mine = new Set();
    const send = () => {
      asked += 1;
      mine.add(asked);
      session.send('Target.sendMessageToTarget', {
        sessionId, message: JSON.stringify({ id: asked, method }),
      }).catch(reject);
    };
    const again = setInterval(send, 5000);
    const overdue = setTimeout(() => {
      clearInterval(again);
      reject(new Error(`the worker does not answer ${method}`));
    }, PATIENCE);
    session.on('Target.receivedMessageFromTarget', ({ message }) => {
      const { id, result } = JSON.parse(message); // events have no id
      if (!mine.has(id)) return;
      clearInterval(again);
      clearTimeout(overdue);
      resolve(result);
    });
    send();
  });
  session.on('Target.attachedToTarget', ({ sessionId }) => workers.push(sessionId));
  await session.send('Target.setAutoAttach', {
    autoAttach: true, waitForDebuggerOnStart: false, flatten: false,
  });
  for (const sessionId of workers) {
    heaps += await usage((method) => askWorker(sessionId, method));
  }
  await session.detach();
  const { runtime } = await ask('count');
  const bitmaps = await page.evaluate(() => 2 * globalThis.arrived - globalThis.released);
  return { workers: workers.length, heaps, runtime, bitmaps };
}

async function open(browser) {
  page = await browser.newPage({ viewport: { width: 900, height: 900 } });
  page.setDefaultTimeout(LONG);
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('console', (message) => {
    if (/Content Security|Refused|violates|garbage collected/.test(message.text())) {
      seen.errors.push(message.text());
    }
  });
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== job.address) {
      seen.errors.push(`asked ${request.url()}`);
    }
  });
  await page.addInitScript(() => {
    Object.assign(globalThis, {
      taken: [], count: 0, arrived: 0, released: 0, keep: false, pauseAt: 0,
    });
    const { close } = ImageBitmap.prototype;
    ImageBitmap.prototype.close = function released() {
      globalThis.released += 1;
      close.call(this);
    };
    addEventListener('megan-frame', ({ detail }) => {
      globalThis.count += 1;
      globalThis.arrived += 1;
      globalThis.taken.push({ index: detail.index, held: detail.held });
      if (globalThis.count === globalThis.pauseAt) {
        document.body.dispatchEvent(new KeyboardEvent('keydown', {
          key: ' ', bubbles: true,
        }));
      }
      if (!globalThis.keep) return;
      const { width, height } = detail.after;
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext('2d');
      context.drawImage(detail.after, 0, 0);
      const { data } = context.getImageData(0, 0, width, height);
      Object.assign(globalThis.taken.at(-1), { data, width, height });
    });
  });
  await page.goto(`${job.address}/index.html`);
  await page.waitForSelector('body[data-ready]');
  seen.engine = await text('engine');
  seen.isolated = await page.evaluate(() => globalThis.crossOriginIsolated);
}

/** A clip, all of it, and what was saved. */
async function goodClip() {
  await page.evaluate(() => { globalThis.keep = true; });
  await give(job.good);
  await state('done', 'failed');
  seen.problem = await text('problem');
  seen.notes = await text('notes');
  seen.pictures = await ask('count');
  seen.ratio = await page.evaluate(() => {
    const { width, height } = document.getElementById('stage').getBoundingClientRect();
    return width / height;
  });
  seen.frames = await page.evaluate(() => globalThis.taken.map(
    ({ data, ...rest }) => rest));
  mkdirSync(job.frames, { recursive: true });
  for (const [number, { index }] of seen.frames.entries()) {
    const encoded = await page.evaluate((n) => {
      const { data } = globalThis.taken[n];
      let all = '';
      for (let i = 0; i < data.length; i += 8192) {
        all += String.fromCharCode(...data.subarray(i, i + 8192));
      }
      return btoa(all);
    }, number);
    writeFileSync(`${job.frames}/${index}.rgba`, Buffer.from(encoded, 'base64'));
  }
  const [download] = await Promise.all([
    page.waitForEvent('download'), page.click('#save')]);
  seen.name = download.suggestedFilename();
  await download.saveAs(job.saved);
}

/** The line between before and after, frame by frame, and zoom. */
async function playing() {
  const difference = () => page.evaluate(() => {
    const canvas = document.getElementById('picture');
    const { data } = canvas.getContext('2d').getImageData(
      0, 0, canvas.width, canvas.height);
    const index = parseFloat(document.getElementById('at').textContent) - 1;
    const shown = globalThis.taken.find((frame) => frame.index === index);
    return data.reduce((sum, value, i) => sum + Math.abs(value - shown.data[i]), 0);
  });
  const line = () => page.evaluate(() => parseFloat(
    document.getElementById('stage').style.getPropertyValue('--split')));
  // All that is made plays in a loop: the first frame comes again.
  await page.waitForFunction(
    () => parseFloat(document.getElementById('at').textContent) === 1);
  await page.click('#pause');
  await page.focus('#split');
  await page.keyboard.press('Home');
  seen.differenceAfter = await difference();
  await page.keyboard.press('End');
  seen.differenceBefore = await difference();
  seen.lineAtEnd = await line();
  await page.keyboard.press('ArrowLeft');
  seen.lineMoved = await line();
  while ((await at()) > 1) await page.keyboard.press(',');
  await page.keyboard.press('.');
  seen.forth = await at();
  await page.keyboard.press(',');
  seen.back = await at();
  await page.keyboard.press('+');
  seen.zoomed = await text('zoom');
  const looks = () => page.evaluate(() => document.getElementById('picture').toDataURL());
  const before = await looks();
  await page.keyboard.press('Shift+ArrowRight');
  seen.moved = (await looks()) !== before;
  await page.keyboard.press('-');
  seen.unzoomed = await text('zoom');
}

/** Files and circumstances that are no good; the page goes on after each. */
async function refusals() {
  for (const path of job.refused) {
    await give(path);
    await state('failed', 'done');
    seen.sentences[path] = await text('problem');
  }
  const cdp = await page.context().newCDPSession(page);
  const quota = { origin: job.address };
  await cdp.send('Storage.overrideQuotaForOrigin', { ...quota, quotaSize: 1000 });
  await give(job.good);
  await state('failed', 'done');
  seen.noRoom = await text('problem');
  await cdp.send('Storage.overrideQuotaForOrigin', quota);
  await ask('no memory');
  await give(job.good);
  await state('failed', 'done');
  seen.noMemory = await text('problem');
  await ask('no H.264');
  await page.evaluate(() => { globalThis.count = 0; });
  await give(job.huge);
  await state('done', 'failed');
  seen.huge = { frames: await count(), problem: await text('problem') };
  seen.fallback = await text('notes');
  await ask('H.264');
}

/** A long clip: paused, one step, gone on with; and its memory. */
async function longClip() {
  await page.evaluate((pauseAt) => {
    Object.assign(globalThis, { keep: false, taken: [], count: 0, pauseAt });
  }, PAUSED_AT);
  await give(job.long);
  await page.waitForSelector('body[data-paused]');
  seen.pauseButton = await text('pause');
  seen.pausedState = await page.evaluate(() => document.body.dataset.state);
  seen.pausedAt = await count();
  seen.facts = await page.locator('#facts dd').allTextContents();
  seen.memoryThen = await memory();
  seen.stillAt = await count();
  while ((await at()) < seen.pausedAt) await page.keyboard.press('.');
  await page.keyboard.press('.'); // the network makes the next frames
  await page.waitForFunction((before) => parseFloat(
    document.getElementById('at').textContent) === before + 1, seen.pausedAt);
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press(' ');
  await state('done', 'failed');
  seen.memoryLater = await memory();
  seen.longFrames = await count();
  seen.longProblem = await text('problem');
  seen.longPictures = await ask('count');
}

/** Nothing sticks out on a narrow screen. */
async function phone() {
  await page.setViewportSize({ width: 360, height: 740 });
  seen.widest = await page.evaluate(() => document.documentElement.scrollWidth);
}

await withChromium(async (browser) => {
  for (const part of [() => open(browser), goodClip, playing, refusals, longClip, phone]) {
    const began = Date.now();
    await part();
    seen.seconds[part.name || 'open'] = (Date.now() - began) / 1000;
  }
  writeFileSync(job.seen, JSON.stringify(seen));
}, { gpu: false });
