// A worker for `run_model.mjs`: opens a model by the page's own engine and runs it.

let engine;

self.onmessage = async ({ data }) => {
  try {
    if (data.model) {
      const { Engine } = await import('./engine.js');
      engine = await Engine.open(data.model, data.accelerator);
      const { fullyAccelerated, adapter } = engine;
      self.postMessage({ fullyAccelerated, adapter });
    } else if (data.input) {
      const response = await fetch(data.input);
      const frames = new Float32Array(await response.arrayBuffer());
      const began = performance.now();
      const output = await engine.run(frames);
      const seconds = (performance.now() - began) / 1000;
      self.postMessage({ seconds, bytes: output.buffer }, [output.buffer]);
    } else {
      const { errors } = engine;
      await engine.close();
      self.postMessage({ errors });
    }
  } catch (error) {
    self.postMessage({ failure: String(error?.stack ?? error) });
  }
};
