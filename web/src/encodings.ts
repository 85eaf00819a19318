// What each simulcast layer of a capture sends: rids stand low to high in the
// offer. Pure.

import type { Source } from './wire';

export interface Layer { active: boolean; scaleResolutionDownBy: number; maxBitrate: number }

const unknownHeight = 720; // a camera that is off: tuned again when it starts
const lowest = 100; // lines below which a layer is not worth its packets

/** Bits per second that look good at this many lines. */
export function bitrateFor(lines: number): number {
  if (lines <= 200) return 150_000;
  if (lines <= 400) return 500_000;
  if (lines <= 800) return 1_700_000;
  return 2_500_000;
}

/**
 * The layers of a capture of the given height, halving downwards from the full
 * picture. A small capture keeps its upper layers only: the server forwards the
 * highest that is there.
 */
export function layersFor(source: Source, count: number, captureHeight: number): Layer[] {
  const height = captureHeight > 0 ? captureHeight : unknownHeight;
  return Array.from({ length: count }, (_, i) => {
    const scale = 2 ** (count - 1 - i);
    const lines = height / scale;
    return {
      active: scale === 1 || lines >= lowest,
      scaleResolutionDownBy: scale,
      // Text on a screen needs its bits at any size.
      maxBitrate: source === 'screen' ? Math.max(bitrateFor(lines), 2_500_000) : bitrateFor(lines),
    };
  });
}
