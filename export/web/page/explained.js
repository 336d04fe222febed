// What can go wrong for reasons outside the page: one sentence for its visitor.

export class Explained extends Error {}

/** The sentence for any failure. */
export function sentence(error) {
  if (error instanceof Explained) return error.message;
  const text = String(error?.message ?? error);
  if (error?.name === 'QuotaExceededError') {
    return 'The browser gives this page no more room on the disk; free some and try again.';
  }
  if (/out of memory|\boom\b|enlarge memory/i.test(text)
    || (error instanceof RangeError && /alloc|memory|length/i.test(text))) {
    return 'There is not enough memory for this video; close other tabs, or take a '
      + 'smaller video.';
  }
  return `Something went wrong, and the page can go on with another file: ${text}`;
}
