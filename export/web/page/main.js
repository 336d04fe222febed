// The page: what visitors do, and what they are told.

import { Player } from './player.js';
import { bestModel } from './tiles.js';
import { bytes, clock, pixels, runsOn, shortly, speed, SUPPORT } from './words.js';

const $ = (id) => document.getElementById(id);
const player = new Player($('stage'), $('picture'), (frame) => {
  $('at').textContent = `${frame.index + 1} at ${frame.time.toFixed(2)} s`;
});
let site;
let supported = false; // whether this browser can run the page
let engine = null; // {worker, model, accelerator, ...}
let running = null; // facts of the work that goes on
let saved = null; // address of the result
let files = 0;

const tell = (id, text) => {
  $(id).textContent = text;
  $(id).hidden = !text;
};
const note = (text) => {
  const item = document.createElement('li');
  item.textContent = text;
  $('notes').append(item);
};

/** A worker with a model on the first of the accelerators that computes it rightly. */
async function openEngine(model) {
  engine?.worker.terminate();
  engine = null;
  const refusals = [];
  delete document.body.dataset.engine;
  for (const accelerator of ['webgpu', 'wasm']) {
    const worker = new Worker('worker.js');
    const answer = await new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => resolve({ refused: event.message ?? 'it ended' });
      worker.postMessage({ open: model, accelerator });
    });
    if (answer.opened) {
      engine = { worker, model, ...answer.opened };
      worker.onmessage = ({ data }) => heard(data);
      worker.onerror = (event) => failed({
        text: `The work ended unexpectedly (${event.message ?? 'out of memory'}); try a `
          + 'smaller video.',
        unexpected: true,
      });
      const why = refusals.length ? ` WebGPU is not used: ${refusals[0]}.` : '';
      tell('engine', `Ready: ${runsOn(engine)}.${why}`);
      document.body.dataset.engine = accelerator;
      return;
    }
    worker.terminate();
    refusals.push(answer.refused);
  }
  throw new Error(`Nothing here runs the network: ${refusals.join('; ')}.`);
}

/** Whether there is an engine; tries once more to open one, and says why not. */
async function ready() {
  await opening;
  if (engine || !supported) return Boolean(engine);
  opening = openEngine(site.models[0]).catch((error) => fail(error.message));
  await opening;
  return Boolean(engine);
}

async function begin(file) {
  if (!(await ready())) return;
  if (running) stop();
  tell('problem', '');
  delete document.body.dataset.paused;
  $('notes').replaceChildren();
  if (saved) URL.revokeObjectURL(saved);
  saved = null;
  $('save').hidden = true;
  running = { file, id: ++files };
  document.body.dataset.state = 'looking';
  engine.worker.postMessage({ look: file, id: running.id });
}

async function start(clip) {
  const { file, id } = running;
  const model = bestModel([...site.models], clip.width, clip.height);
  if (!model) {
    throw new Error('This page has no tiles that fit a video of '
      + `${clip.width} x ${clip.height} pixels.`);
  }
  if (model.file !== engine.model.file) {
    tell('engine', `Preparing the network for tiles of ${model.width} x ${model.height}`
      + ' pixels ...');
    opening = openEngine(model).catch((error) => fail(error.message));
    await opening;
    if (running?.id !== id) return;
  }
  running.clip = clip;
  engine.worker.postMessage({ start: file, id });
}

function stop() {
  engine?.worker.postMessage({ cancel: true });
  running = null;
  $('left').textContent = 'stopped';
  document.body.dataset.state = 'stopped';
  buttons();
}

function fail(text) {
  running = null;
  $('left').textContent = '-';
  tell('problem', text);
  document.body.dataset.state = 'failed';
  buttons();
}

/** The work failed. What nobody expected may have left the worker in any state. */
function failed({ text, unexpected }) {
  fail(text);
  if (!unexpected) return;
  const { model } = engine;
  opening = openEngine(model).catch((error) => fail(`${text} ${error.message}`));
}

const ANSWERS = {
  clip: (clip) => start(clip).catch((error) => fail(error.message)),
  failed,
  began(facts) {
    Object.assign(running, facts);
    facts.notes.forEach(note);
    player.clear(facts.width, facts.height, facts.ratio);
    $('work').hidden = false;
    $('progress').max = facts.expected;
    $('progress').value = 0;
    const { clip } = running;
    $('size').textContent = `${pixels(clip)} to ${pixels(facts)}`;
    $('runs').textContent = shortly(engine);
    document.body.dataset.state = 'working';
    buttons();
    $('work').scrollIntoView({ block: 'nearest' });
  },
  frame(frame) {
    dispatchEvent(new CustomEvent('megan-frame', { detail: frame }));
    player.add(frame);
    engine.worker.postMessage({ seen: true, id: running.id });
  },
  progress({ frames, seconds, runtimeBytes, cuts }) {
    Object.assign(running, { frames, cuts });
    const { expected } = running;
    $('progress').max = Math.max(expected, frames);
    $('progress').value = frames;
    $('speed').textContent = speed(frames, seconds);
    $('left').textContent = clock((Math.max(0, expected - frames) * seconds) / frames);
    showMemory(runtimeBytes);
  },
  done({ file, frames, cuts, seconds }) {
    const name = running.file.name?.replace(/\.[^.]*$/, '') ?? 'sample';
    saved = URL.createObjectURL(file);
    $('save').href = saved;
    $('save').download = `${name}-megan.mp4`;
    $('save').textContent = `Save MP4 (${bytes(file.size)})`;
    $('save').hidden = false;
    $('progress').max = frames;
    $('progress').value = frames;
    $('left').textContent = 'done';
    $('speed').textContent = speed(frames, seconds);
    const held = cuts ? `, ${cuts} scene ${cuts > 1 ? 'cuts' : 'cut'} held` : '';
    note(`${frames} frames in ${clock(seconds)}${held}; saved as ${running.codec}.`);
    running = null;
    player.ended = true;
    document.body.dataset.state = 'done';
    buttons();
  },
  // Nothing is worked on any more, until a step or going on.
  paused() {
    document.body.dataset.paused = 'true';
  },
  cancelled() {},
};

function heard(data) {
  const { id, ...rest } = data;
  const [[kind, answer]] = Object.entries(rest);
  if (id === running?.id) {
    ANSWERS[kind](answer);
  } else if (kind === 'frame') { // of work that was stopped
    answer.before.close();
    answer.after.close();
  }
}

let measuring = false;
async function showMemory(runtimeBytes) {
  // What the browser counts lacks workers that did not answer in time.
  $('memory').textContent = bytes(Math.max(running.bytes ?? 0, runtimeBytes));
  if (measuring || !self.crossOriginIsolated
    || !performance.measureUserAgentSpecificMemory) return;
  measuring = true;
  try {
    const { bytes: all } = await performance.measureUserAgentSpecificMemory();
    if (running) running.bytes = all;
  } catch { /* this browser does not tell */ }
  setTimeout(() => { measuring = false; }, 2000);
}

function buttons() {
  const shown = !$('work').hidden;
  $('pause').textContent = player.playing ? 'Pause' : 'Play';
  $('back').disabled = !shown;
  $('step').disabled = !shown;
  $('cancel').disabled = !running;
}

function togglePause() {
  if (player.playing) player.pause();
  else player.play();
  delete document.body.dataset.paused;
  if (running) engine?.worker.postMessage({ [player.playing ? 'resume' : 'pause']: true });
  buttons();
}

function step(by) {
  if (player.playing) togglePause();
  // Where no frame waits, the network makes the next ones.
  if (!player.step(by) && by > 0 && running) {
    engine?.worker.postMessage({ step: true });
    addEventListener('megan-frame', () => setTimeout(() => player.step(1)), { once: true });
  }
}

const zoom = (by) => { $('zoom').textContent = player.zoom(by); };

const KEYS = {
  ' ': togglePause,
  ',': () => step(-1),
  '.': () => step(1),
  '+': () => zoom(1),
  '=': () => zoom(1),
  '-': () => zoom(-1),
};
const MOVES = {
  ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1],
};

function listen() {
  $('pause').onclick = togglePause;
  $('back').onclick = () => step(-1);
  $('step').onclick = () => step(1);
  $('larger').onclick = () => zoom(1);
  $('smaller').onclick = () => zoom(-1);
  $('cancel').onclick = stop;
  $('split').oninput = () => {
    const share = $('split').value / 1000;
    $('split').ariaValueText = `${Math.round(100 * share)} %`;
    player.setSplit(share);
  };
  $('stage').oncontextmenu = (event) => event.preventDefault();
  $('stage').onpointermove = (event) => {
    if (!(event.buttons & 2)) return;
    const { width, height } = $('stage').getBoundingClientRect();
    player.move(-event.movementX / width, -event.movementY / height);
  };
  let held = null; // where two fingers were
  $('stage').addEventListener('touchmove', (event) => {
    if (event.touches.length !== 2) {
      held = null;
      return;
    }
    event.preventDefault();
    const [one, other] = event.touches;
    const now = [(one.clientX + other.clientX) / 2, (one.clientY + other.clientY) / 2];
    const { width, height } = $('stage').getBoundingClientRect();
    if (held) player.move((held[0] - now[0]) / width, (held[1] - now[1]) / height);
    held = now;
  }, { passive: false });
  $('stage').addEventListener('touchend', () => { held = null; });
  document.onkeydown = (event) => {
    if ($('work').hidden || event.ctrlKey || event.altKey || event.metaKey) return;
    const pressed = event.target.closest('button, a, input[type=file]');
    if (event.key === ' ' && pressed) return;
    const move = event.shiftKey && MOVES[event.key];
    if (move) player.move(...move);
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
  };
  $('file').onchange = () => {
    if ($('file').files[0]) begin($('file').files[0]);
    $('file').value = '';
  };
  document.ondragover = (event) => {
    event.preventDefault();
    $('drop').classList.add('over');
  };
  document.ondragleave = (event) => {
    if (!event.relatedTarget) $('drop').classList.remove('over');
  };
  document.ondrop = (event) => {
    event.preventDefault();
    $('drop').classList.remove('over');
    const [file] = event.dataTransfer.files;
    if (file) begin(file);
  };
}

async function prepare() {
  const response = await fetch('site.json');
  site = await response.json();
  $('model').textContent = site.name;
  for (const { file, title } of site.samples) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = title;
    button.onclick = async () => {
      try {
        const blob = await (await fetch(file)).blob();
        await begin(new File([blob], file.split('/').at(-1)));
      } catch {
        fail('The sample cannot be loaded; check the connection, or choose a file.');
      }
    };
    $('samples').append(button);
  }
  const lacking = SUPPORT.filter(({ there }) => !there());
  lacking.forEach(({ otherwise }) => note(otherwise));
  supported = !lacking.some(({ needed }) => needed);
  if (supported) await openEngine(site.models[0]);
  else tell('engine', 'This browser cannot run the page.');
}

listen();
buttons();
let opening = prepare().catch((error) => {
  tell('engine', '');
  fail(error.message);
});
opening.then(() => { document.body.dataset.ready = 'true'; });
