// A file on the page's private disk (OPFS) that no other tab touches.
//
//   const file = await PrivateFile.open();     null where pages have no disk
//   file.write(bytes, position);
//   const result = await file.finish();        a File; it stays as long as this worker
//
// Each worker has one file and holds a lock of the same name while it lives, so whoever
// comes later knows which files are in use, and clears away those that closed tabs left.

const PREFIX = 'megan-result-';
const NAME = PREFIX + crypto.randomUUID();

export class PrivateFile {
  /** The file, empty. @returns {Promise<PrivateFile|null>} */
  static async open() {
    const file = new PrivateFile();
    try {
      const root = await navigator.storage.getDirectory();
      await claim(root);
      file.handle = await root.getFileHandle(NAME, { create: true });
      file.access = await file.handle.createSyncAccessHandle();
      file.access.truncate(0);
      return file;
    } catch {
      return null;
    }
  }

  /** @throws {DOMException} QuotaExceededError if the disk is full. */
  write(data, position) {
    const written = this.access.write(data, { at: position });
    if (written !== data.byteLength) {
      throw new DOMException('the disk is full', 'QuotaExceededError');
    }
  }

  /** @returns {Promise<File>} */
  async finish() {
    this.access.flush();
    this.access.close();
    return this.handle.getFile();
  }

  /** Nothing stays on the disk. */
  abandon() {
    this.access.truncate(0);
    this.access.close();
  }
}

let claimed = null;

/** Locks this worker's name, once, and removes files whose name nobody has locked. */
function claim(root) {
  claimed ??= (async () => {
    await new Promise((resolve) => {
      navigator.locks.request(NAME, () => {
        resolve();
        return new Promise(() => {}); // held until the worker ends
      });
    });
    const { held } = await navigator.locks.query();
    const used = new Set(held.map(({ name }) => name));
    const left = [];
    for await (const name of root.keys()) {
      if (name.startsWith(PREFIX) && !used.has(name)) left.push(name);
    }
    await Promise.allSettled(left.map((name) => root.removeEntry(name)));
  })();
  return claimed;
}
