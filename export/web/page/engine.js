// A network on LiteRT.js: on the GPU by WebGPU, or on the CPU by WebAssembly.
//
//   const engine = await Engine.open('models/x.tflite', 'webgpu');
//   const output = await engine.run(frames);     // Float32Array -> Float32Array
//
// Belongs into a classic worker: LiteRT's loader calls importScripts. One worker opens
// one engine, because the WebAssembly module for the GPU and the one with threads
// exclude each other.

const HERE = new URL('./', import.meta.url);
const WASM = new URL('vendor/litert/wasm/', HERE).href;

export class Engine {
  /**
   * @param {string} url of the .tflite file, relative to the page.
   * @param {'webgpu'|'wasm'} accelerator
   * @throws if the accelerator is not there or refuses the model.
   */
  static async open(url, accelerator) {
    const litert = await import(new URL('vendor/litert/index.js', HERE));
    const threads = accelerator === 'wasm' && self.crossOriginIsolated
      && (await litert.supportsFeature('threads'))
      && (await litert.supportsFeature('relaxedSimd'));
    const jspi = accelerator === 'webgpu' && (await litert.supportsFeature('jspi'));
    if (accelerator === 'webgpu') {
      if (!(await self.navigator.gpu?.requestAdapter())) {
        throw new Error('there is no WebGPU adapter');
      }
      // Without it the whole network would be taken to the CPU, and say nothing.
      if (!jspi) throw new Error('the browser lacks WebAssembly JSPI');
    }
    // In a worker, LiteRT's files would be looked for beside the worker's own.
    const script = threads ? 'litert_wasm_threaded_internal.js' : '';
    self.Module = {
      locateFile: (file) => WASM + file,
      ...(script && { mainScriptUrlOrBlob: WASM + script }),
    };
    const runtime = await litert.loadLiteRt(WASM, { threads, jspi });
    const engine = new Engine();
    engine.runtime = runtime;
    engine.litert = litert;
    engine.accelerator = accelerator;
    engine.threads = threads ? self.navigator.hardwareConcurrency : 1;
    engine.errors = [];
    engine.adapter = '';
    const device = litert.getWebGpuDevice();
    if (accelerator === 'webgpu') {
      device.addEventListener('uncapturederror', (event) => {
        if (engine.errors.length < 20) engine.errors.push(event.error.message);
      });
      engine.lost = device.lost.then((info) => {
        engine.errors.push(`the GPU was lost: ${info.message}`);
      });
      const { vendor = '', architecture = '', description = '' } = device.adapterInfo
        ?? {};
      engine.adapter = description || [vendor, architecture].filter(Boolean).join(' ');
    }
    const response = await fetch(new URL(url, HERE));
    if (!response.ok) throw new Error(`${url}: ${response.status}`);
    engine.model = await litert.loadAndCompile(
      new Uint8Array(await response.arrayBuffer()), { accelerator },
    );
    engine.fullyAccelerated = engine.model.isFullyAccelerated;
    engine.shape = [...engine.model.getInputDetails()[0].shape];
    return engine;
  }

  /** Bytes of WebAssembly memory. */
  get bytes() {
    return this.runtime.liteRtWasm.HEAPU8.length;
  }

  /**
   * Runs the network once.
   *
   * WebGPU reports what went wrong apart from the call, which returns all the same: who
   * uses the output must look at `errors` after it.
   *
   * @param {Float32Array} frames of the model's shape.
   */
  async run(frames) {
    const { Tensor } = this.litert;
    const input = new Tensor(frames, this.shape);
    let outputs = [];
    try {
      outputs = await this.model.run([input]);
      return await outputs[0].data();
    } finally {
      input.delete();
      for (const output of outputs) output.delete();
    }
  }

  async close() {
    this.model.delete();
    this.litert.unloadLiteRt();
  }
}
