// Stands before the page's own worker: counts pictures that are not closed, and can take
// things away.
//
//   'count'            answers {open, most, all, runtime}: pictures now, at any one time,
//                      ever; bytes of the WebAssembly that runs the network
//   'no memory'        from now on there is no room for pictures
//   'no H.264'         it is not encoded
//   'H.264'            it is again

{
  const open = new Set();
  const count = { most: 0, all: 0 };
  const opened = (picture) => {
    open.add(picture);
    count.all += 1;
    count.most = Math.max(count.most, open.size);
    return picture;
  };
  const { close, clone } = VideoFrame.prototype;
  VideoFrame.prototype.close = function closed() {
    open.delete(this);
    close.call(this);
  };
  VideoFrame.prototype.clone = function cloned() {
    return opened(clone.call(this));
  };
  self.VideoFrame = new Proxy(VideoFrame, {
    construct: (target, args) => opened(new target(...args)),
  });
  self.VideoDecoder = new Proxy(VideoDecoder, {
    construct: (target, [init]) => new target({
      ...init,
      output: (picture) => init.output(opened(picture)),
    }),
  });
  const memories = [];
  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct: (target, args) => {
      memories.push(new target(...args));
      return memories.at(-1);
    },
  });
  const runtime = () => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
  const { isConfigSupported } = VideoEncoder;
  const channel = new BroadcastChannel('watched');
  channel.onmessage = ({ data }) => {
    if (data === 'count') {
      channel.postMessage({ open: open.size, ...count, runtime: runtime() });
    }
    if (data.endsWith('H.264')) {
      VideoEncoder.isConfigSupported = data === 'H.264' ? isConfigSupported : (config) => (
        config.codec.startsWith('avc') ? { supported: false, config }
          : isConfigSupported.call(VideoEncoder, config));
      channel.postMessage({ done: true });
    }
    if (data === 'no memory') {
      self.ImageData = class {
        constructor() {
          throw new RangeError('Array buffer allocation failed');
        }
      };
      channel.postMessage({ done: true });
    }
  };
}
