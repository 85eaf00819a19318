// Plays what the audio slots receive: one <audio> element a slot. Knows whether
// the browser keeps the sound off until the person touches the page.

import { preference } from './settings';

export class AudioSinks {
  private readonly holder: HTMLElement;
  private readonly sinks = new Map<string, HTMLAudioElement>(); // by mid
  private readonly blocked: (blocked: boolean) => void;
  private muted = false;

  constructor(holder: HTMLElement, blocked: (blocked: boolean) => void) {
    this.holder = holder;
    this.blocked = blocked;
  }

  /** The tracks that shall play, by mid; all others stop. */
  sync(tracks: ReadonlyMap<string, MediaStreamTrack>): void {
    for (const [mid, sink] of this.sinks) {
      if (tracks.has(mid)) continue;
      sink.srcObject = null;
      sink.remove();
      this.sinks.delete(mid);
    }
    for (const [mid, track] of tracks) {
      const sink = this.sinks.get(mid) ?? this.add(mid);
      const playing = sink.srcObject instanceof MediaStream ? sink.srcObject.getTracks()[0] : null;
      if (playing === track) continue;
      sink.srcObject = new MediaStream([track]);
      this.play(sink);
    }
  }

  /** To be called from a gesture: plays what the browser held back. */
  resume(): void {
    this.blocked(false);
    for (const sink of this.sinks.values()) if (sink.paused) this.play(sink);
  }

  /** Keeps all of them silent, or no more. */
  mute(on: boolean): void {
    this.muted = on;
    for (const sink of this.sinks.values()) sink.muted = on;
  }

  /** The chosen speaker, for all slots. */
  route(): void {
    for (const sink of this.sinks.values()) this.choose(sink);
  }

  private add(mid: string): HTMLAudioElement {
    const sink = document.createElement('audio');
    sink.autoplay = true;
    sink.muted = this.muted;
    sink.dataset['mid'] = mid;
    this.holder.append(sink);
    this.sinks.set(mid, sink);
    this.choose(sink);
    return sink;
  }

  private play(sink: HTMLAudioElement): void {
    sink.play().catch((e: unknown) => {
      if (e instanceof DOMException && e.name === 'NotAllowedError') this.blocked(true);
    });
  }

  private choose(sink: HTMLAudioElement): void {
    const id = preference('speaker');
    // A speaker that is gone falls back to the default by itself.
    if ('setSinkId' in sink && (id || sink.sinkId)) sink.setSinkId(id).catch(() => undefined);
  }
}
