// The worker in which a network runs. Classic, because LiteRT's loader needs
// importScripts; everything else is a module.

const messages = import('./job.js').then(({ Job }) => {
  const job = new Job((message, transfer = []) => self.postMessage(message, transfer));
  return (message) => job.hear(message);
});

self.onmessage = async ({ data }) => (await messages)(data);
