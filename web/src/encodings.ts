// What each simulcast layer of a capture sends: rids stand low to high in the
// offer. Pure.
//
// Layers that nobody wants are off, which leaves the others as they are: their
// scales count from the capture, and an encoding that is off keeps its place
// among those that the browser would send.

import type { Source } from './wire';

export interface Layer { active: boolean; scaleResolutionDownBy: number; maxBitrate: number }

export interface Size { width: number; height: number }

const unknown: Size = { width: 1280, height: 720 }; // a camera that is off: tuned again when it starts

// How many layers a picture of so many pixels is worth. Chromium encodes no more
// than this, and drops the last encodings, not the smallest (libwebrtc,
// video/config/simulcast.cc): the full picture has to be among the first.
const worth: readonly [pixels: number, layers: number][] = [[960 * 540, 3], [480 * 270, 2], [0, 1]];

/** Bits per second that look good at this many lines. */
export function bitrateFor(lines: number): number {
  if (lines <= 200) return 150_000;
  if (lines <= 400) return 500_000;
  if (lines <= 800) return 1_700_000;
  return 2_500_000;
}

/**
 * The layers of a capture, halving downwards from the full picture. A small
 * capture has fewer: its full picture goes into a lower encoding, and those
 * above are off; the server forwards the highest that is there. Off are also
 * those beyond the first `wanted`, which nobody has a use for.
 */
export function layersFor(source: Source, count: number, capture: Size, wanted = count): Layer[] {
  const { width, height } = capture.width > 0 && capture.height > 0 ? capture : unknown;
  const used = Math.min(count, worth.find(([pixels]) => width * height >= pixels)![1]);
  const full = Math.min(width, height); // a phone held upright counts by its width
  return Array.from({ length: count }, (_, i) => {
    const scale = 2 ** Math.max(0, used - 1 - i);
    const bitrate = bitrateFor(full / scale);
    return {
      active: i < Math.min(used, Math.max(wanted, 1)),
      scaleResolutionDownBy: scale,
      // Text on a screen needs its bits at any size.
      maxBitrate: source === 'screen' ? Math.max(bitrate, 2_500_000) : bitrate,
    };
  });
}
