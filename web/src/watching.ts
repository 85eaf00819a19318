// What a viewer of a broadcast can do, and how the page stays with it: it opens
// the WHEP session, looks whether anything comes, restarts ICE, starts over,
// and says at every moment which of these it does.

import { failureOf } from './api';
import { AudioSinks } from './audio';
import { setLanguage } from './i18n';
import type { Language } from './i18n';
import { Recovery } from './recovery';
import { hostToken, remember } from './settings';
import { createStore } from './store';
import type { Store } from './store';
import { trace } from './trace';
import { keepAwake } from './wake';
import { Whep } from './whep';

/**
 * How the connection fares: on its way; there; looking for another path; made
 * anew because the old one is gone; resting before the next try; over, because
 * somebody ended it; not to be had.
 */
export type Phase = 'connecting' | 'open' | 'restarting' | 'renewing' | 'resting' | 'ended' | 'failed';

export interface WatchState {
  readonly room: string;
  readonly phase: Phase;
  readonly problem: string; // why it rests or failed
  readonly seconds: number; // until the rest is over
  readonly picture: boolean; // comes
  readonly sound: boolean;
  readonly blocked: boolean; // the browser keeps the sound off until the person touches the page
  readonly muted: boolean; // by the person
  readonly language: string;
}

/** What is to be seen and heard is there. */
export const isLive = (s: WatchState) => s.phase === 'open' && (s.picture || s.sound);

const quietMs = 4000; // without a frame while sound comes, or the other way round: there is none
const stillMs = 9000; // without either: longer than ICE takes to see that the path is lost, which is another matter
const lookMs = 500;
const soonMs = 3000; // for a session to end after it began
const restsMs = [1000, 2000, 4000, 8000, 15_000];

/** What passes by itself. All else needs somebody to do something. */
const passing = new Set(['network', 'internal', 'rate_limited', 'room_full', 'too_many']);

/** How long to rest before another try: what the server asked for, or longer each time. */
function restMs(tries: number, asked: number): number {
  return asked || restsMs[Math.min(tries, restsMs.length - 1)]!;
}

export class Watching {
  readonly store: Store<WatchState, Partial<WatchState>>;
  readonly video: HTMLVideoElement;
  private readonly sinks: AudioSinks;
  private session: Whep | null = null;
  private recovery: Recovery | null = null;
  private tries = 0;
  private startedAt = -Infinity;
  private timer: ReturnType<typeof setInterval> | undefined; // of a rest
  private counts = new Map<string, { n: number; at: number }>();

  constructor(room: string, language: Language, soundHolder: HTMLElement) {
    this.store = createStore<WatchState, Partial<WatchState>>({
      room, phase: 'connecting', problem: '', seconds: 0, picture: false, sound: false, blocked: false, muted: false, language,
    }, (s, change) => ({ ...s, ...change }));
    this.sinks = new AudioSinks(soundHolder, (blocked) => this.set({ blocked }));
    this.video = document.createElement('video');
    this.video.muted = true; // the sound has elements of its own: a video element plays one track of sound
    this.video.autoplay = true;
    this.video.playsInline = true;
    setInterval(() => void this.look(), lookMs);
    this.store.subscribe((s) => keepAwake(isLive(s)));
  }

  get state(): WatchState {
    return this.store.get();
  }

  get pc(): RTCPeerConnection | null {
    return this.session?.pc ?? null;
  }

  /** Opens a session in place of the one there is. */
  async start(phase: 'connecting' | 'renewing' = 'connecting'): Promise<void> {
    this.leave();
    const now = performance.now();
    if (phase === 'renewing' && now - this.startedAt < soonMs) { // whatever ended it may do so again
      this.rest('interrupted', restMs(this.tries++, 0));
      return;
    }
    this.startedAt = now;
    this.set({ phase, problem: '', seconds: 0 });
    const { room } = this.state;
    const session = new Whep(decodeURIComponent(location.hash.slice(1)) || hostToken(room) || '', {
      iceState: (state) => this.session === session && this.recovery?.ice(state),
      closed: () => this.session === session && void this.start('renewing'),
    });
    this.session = session;
    this.recovery = new Recovery({
      restart: () => this.restart(session),
      rejoin: () => void this.start('renewing'),
      media: (media) => {
        if (media === 'connected') {
          this.tries = 0;
          this.set({ phase: 'open', problem: '' });
        } else if (media === 'interrupted') {
          this.set({ phase: 'restarting' });
        }
      },
    });
    session.pc.ontrack = () => this.play(session);
    try {
      await session.open(`/whep/${encodeURIComponent(room)}`);
    } catch (e) {
      if (this.session !== session) return;
      const { code, retryAfterMs } = failureOf(e);
      trace('watch refused', code);
      this.leave();
      if (code === 'room_closed') this.set({ phase: 'ended' });
      else if (passing.has(code)) this.rest(code, restMs(this.tries++, retryAfterMs));
      else this.set({ phase: 'failed', problem: code });
    }
  }

  /** Asks for new ICE credentials; a session that is not there any more is made anew. */
  async restart(session = this.session): Promise<void> {
    if (!session) return;
    try {
      await session.restart();
      if (this.session === session) this.set({ problem: '' });
    } catch (e) {
      if (this.session === session) {
        const { code } = failureOf(e);
        if (code === 'not_found') void this.start('renewing');
        else this.set({ problem: code });
      }
      throw e;
    }
  }

  /** Ends the session. */
  leave(): void {
    clearInterval(this.timer);
    this.recovery?.stop();
    this.recovery = null;
    this.session?.end();
    this.session = null;
    this.counts.clear();
    this.set({ picture: false, sound: false });
  }

  networkChanged(): void {
    if (this.state.phase === 'resting') void this.start();
    else this.recovery?.networkChanged();
  }

  /** To be called from a gesture: plays what the browser held back. */
  soundOn(): void {
    this.sinks.resume();
  }

  toggleSound(): void {
    const muted = !this.state.muted;
    this.sinks.mute(muted);
    this.set({ muted });
  }

  setLanguage(l: Language): void {
    remember('language', l);
    setLanguage(l);
    this.set({ language: l });
  }

  goHome(): void {
    location.assign('/');
  }

  private set(change: Partial<WatchState>): void {
    const now = this.state;
    if ((Object.keys(change) as (keyof WatchState)[]).some((key) => now[key] !== change[key])) this.store.dispatch(change);
  }

  private play(session: Whep): void {
    const tracks = new Map<string, MediaStreamTrack>();
    for (const { mid, receiver } of session.pc.getTransceivers()) {
      if (receiver.track.kind === 'audio' && mid !== null) tracks.set(mid, receiver.track);
      if (receiver.track.kind !== 'video' || (this.video.srcObject as MediaStream | null)?.getTracks()[0] === receiver.track) continue;
      this.video.srcObject = new MediaStream([receiver.track]);
      void this.video.play().catch(() => undefined); // muted, so it may; and it plays by itself
    }
    this.sinks.sync(tracks);
  }

  private rest(problem: string, ms: number): void {
    const end = performance.now() + ms;
    this.set({ phase: 'resting', problem, seconds: Math.ceil(ms / 1000) });
    this.timer = setInterval(() => {
      const left = end - performance.now();
      if (left <= 0) void this.start();
      else this.set({ seconds: Math.ceil(left / 1000) });
    }, 250);
  }

  // Whether picture and sound come. A track says so once at best: it stays live when nothing comes any more.
  private async look(): Promise<void> {
    const session = this.session;
    if (!session) return;
    const stats = await session.pc.getStats().catch(() => null);
    if (!stats || this.session !== session) return;
    const now = performance.now();
    const last = { video: -Infinity, audio: -Infinity };
    for (const s of stats.values() as Iterable<RTCInboundRtpStreamStats>) {
      if (s.type !== 'inbound-rtp') continue;
      const kind = s.kind === 'video' ? 'video' : 'audio';
      const n = (kind === 'video' ? s.framesDecoded : s.packetsReceived) ?? 0;
      const before = this.counts.get(s.id);
      const at = before && before.n === n ? before.at : n > 0 ? now : -Infinity;
      this.counts.set(s.id, { n, at });
      last[kind] = Math.max(last[kind], at);
    }
    const patience = now - Math.max(last.video, last.audio) < quietMs / 2 ? quietMs : stillMs;
    this.set({ picture: now - last.video < patience && this.video.videoWidth > 0, sound: now - last.audio < patience });
  }
}
