// Cuts a clip of any length into overlapping windows of T frames, scene by scene.
//
// The same plan as keras_megan/video/windows.py and jobs/schedule.py: windows share one
// frame with their neighbour, the last one is moved back so that it ends on the last
// frame, a scene shorter than T is filled up with copies of its last frame. N frames
// give exactly 2N-1. At most T frames are held.

/**
 * @param {AsyncIterable<{cut: boolean}>} frames in order; `cut` opens a new scene.
 * @param {number} size T.
 * @yields {{items: object[], keep: [number, number], first: number, hold: boolean}}
 *   the T frames, which of the 2T-1 predictions to keep, the clip's index of the first
 *   one kept, and whether the output before it lies across a cut.
 */
export async function* windows(frames, size) {
  let recent = [];
  let seen = 0; // of this scene
  let done = 0; // outputs of this scene that are planned
  let opening = 0; // the clip's index of the scene's first output
  let hold = false;

  const window = () => {
    const items = [...recent];
    while (items.length < size) items.push(recent.at(-1));
    const begin = 2 * (seen - recent.length);
    const found = {
      items,
      keep: [done - begin, 2 * seen - 1 - begin],
      first: opening + done,
      hold,
    };
    done = 2 * seen - 1;
    hold = false;
    return found;
  };

  for await (const frame of frames) {
    if (frame.cut) {
      if (done < 2 * seen - 1) yield window();
      opening += 2 * seen;
      [recent, seen, done, hold] = [[], 0, 0, true];
    }
    recent = [...recent.slice(1 - size), frame];
    seen += 1;
    if (seen >= size && (seen - 1) % (size - 1) === 0) yield window();
  }
  if (done < 2 * seen - 1) yield window();
}
