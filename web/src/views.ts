// How large the tracks of the others are on this screen, as the server is told
// it: what changed, gathered, a few requests a second at most. Does not measure
// (ui/sizes.ts does) and knows no sockets.

import { Failure, failureOf } from './api';
import type { State } from './state';
import { trace } from './trace';
import { limits } from './wire';
import type { TrackView } from './wire';

/** A tile in pixels of the screen; width 0: it cannot be seen. */
export interface Shown { width: number; height: number; pinned: boolean }

const nowhere: Shown = { width: 0, height: 0, pinned: false };
const restMs = 200;
const retryMs = 1000;
const grain = 16; // a tile that grows by less is of the same size

/** How every picture of the others is shown, by its track; sizes are by the keys of tiles. */
export function viewsOf(s: State, sizes: ReadonlyMap<string, Shown>): Map<string, Shown> {
  const views = new Map<string, Shown>();
  for (const p of s.people) {
    if (p.id === s.me) continue;
    for (const track of p.tracks) {
      // A camera that is off counts as its tile does: when it is turned on, its picture is to be there at once.
      if (track.kind === 'video') views.set(track.id, sizes.get(track.source === 'screen' ? `${p.id}/screen` : p.id) ?? nowhere);
    }
  }
  return views;
}

/** One seat's views. */
export class Views {
  private readonly send: (views: TrackView[]) => Promise<unknown>;
  private wanted: ReadonlyMap<string, Shown> = new Map();
  private readonly told = new Map<string, TrackView>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = Infinity;
  private sentAt = -Infinity;

  constructor(send: (views: TrackView[]) => Promise<unknown>) {
    this.send = send;
  }

  /** How all pictures of the others are shown from now on. */
  show(views: ReadonlyMap<string, Shown>): void {
    this.wanted = views;
    for (const id of this.told.keys()) if (!views.has(id)) this.told.delete(id);
    const changed = this.changes();
    if (changed.length === 0) return;
    // What comes into sight is waited for; everything else may settle first.
    const urgent = changed.some((v) => v.width > 0 && this.told.get(v.track)?.width === 0);
    this.schedule(urgent ? this.sentAt + restMs - performance.now() : restMs);
  }

  close(): void {
    clearTimeout(this.timer);
    this.wanted = new Map();
  }

  private changes(): TrackView[] {
    const list: TrackView[] = [];
    for (const [track, shown] of this.wanted) {
      const view = asView(track, shown);
      const last = this.told.get(track);
      if (last?.width !== view.width || last.height !== view.height || last.pinned !== view.pinned) list.push(view);
    }
    return list;
  }

  private schedule(wait: number): void {
    const at = performance.now() + Math.max(0, wait);
    if (at >= this.due) return;
    clearTimeout(this.timer);
    this.due = at;
    this.timer = setTimeout(() => this.flush(), Math.max(0, wait));
  }

  private flush(): void {
    this.due = Infinity;
    this.sentAt = performance.now();
    const changed = this.changes();
    for (let i = 0; i < changed.length; i += limits.tracksPerRequest) {
      const views = changed.slice(i, i + limits.tracksPerRequest);
      for (const view of views) this.told.set(view.track, view);
      this.send(views).catch((e: unknown) => this.failed(views, failureOf(e)));
    }
  }

  private failed(views: TrackView[], failure: Failure): void {
    trace('view failed', failure.code);
    if (failure.code === 'session_gone') return; // the next seat is told anew
    for (const view of views) if (this.told.get(view.track) === view) this.told.delete(view.track);
    this.schedule(failure.retryAfterMs || retryMs);
  }
}

function asView(track: string, { width, height, pinned }: Shown): TrackView {
  const round = (n: number) => Math.min(Math.ceil(n / grain) * grain, limits.viewPixels);
  const view: TrackView = { track, width: round(width), height: round(height) };
  if (pinned) view.pinned = true;
  return view;
}
