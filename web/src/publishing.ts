// Own tracks: what the person wants on, what the devices give, what the meeting
// was told. Works before the meeting (preview) and through rejoins: a session is
// plugged in while there is one. Muting never needs an offer; only a screen
// share does.

import { Failure, failureOf } from './api';
import { MediaFailure } from './media';
import type { LocalMedia, MediaProblem } from './media';
import type { Action, OwnSource, State } from './state';
import type { Store } from './store';
import { trace } from './trace';
import type { OwnTrack, Publication, Source } from './wire';

/** What a session does for us. */
export interface PublishingSession {
  setTrack(source: Source, track: MediaStreamTrack | null): Promise<void>;
  mute(track: string, muted: boolean): Promise<unknown>;
  publish(publications: Publication[]): Promise<{ tracks: OwnTrack[] }>;
  unpublish(tracks: string[]): Promise<unknown>;
}

export class Publishing {
  private readonly store: Store<State, Action>;
  private readonly media: LocalMedia;
  private readonly failed: (source: OwnSource, problem: MediaProblem) => void;
  private readonly refused: (failure: Failure) => void;
  private readonly codec: string;
  private readonly scalability: Promise<string>;
  private mode = ''; // the scalability mode of the camera, once it is known

  private session: PublishingSession | null = null;
  private readonly ids = new Map<Source, string>(); // of published tracks
  private readonly told = new Map<Source, boolean>(); // muted, as the meeting knows it
  private readonly chains = new Map<OwnSource, Promise<void>>();

  constructor(store: Store<State, Action>, media: LocalMedia, options: {
    codec: string;
    scalability: Promise<string>;
    failed(source: OwnSource, problem: MediaProblem): void;
    refused(failure: Failure): void;
  }) {
    this.store = store;
    this.media = media;
    this.codec = options.codec;
    this.scalability = options.scalability;
    this.failed = options.failed;
    this.refused = options.refused;
  }

  /** What to publish when joining. Microphone and camera always, muted if off: turning them on later needs no offer. */
  async publications(): Promise<Publication[]> {
    this.mode = await this.scalability;
    const own = this.store.get().own;
    const list: Publication[] = [
      { source: 'microphone', muted: !own.microphone.on },
      { ...this.video('camera'), muted: !own.camera.on },
    ];
    if (this.media.track('screen')) list.push(this.video('screen'));
    if (this.media.track('screen-audio')) list.push({ source: 'screen-audio' });
    return list;
  }

  /** A seat was taken, anew or again. */
  attach(session: PublishingSession, joined: Publication[], tracks: OwnTrack[]): void {
    this.session = session;
    this.ids.clear();
    this.told.clear();
    for (const { source, track } of tracks) this.ids.set(source, track);
    for (const { source, muted } of joined) this.told.set(source, muted ?? false);
    for (const source of ['microphone', 'camera', 'screen'] as const) void this.settle(source);
  }

  detach(): void {
    this.session = null;
    this.ids.clear();
  }

  /** The track that a section of an offer asks for. */
  trackFor(source: Source): MediaStreamTrack | null {
    return this.media.track(source);
  }

  /** The scalability mode in which a source is sent as one stream; '' if it is not. */
  modeFor(source: Source): string {
    return source === 'camera' ? this.mode : '';
  }

  set(source: OwnSource, on: boolean): Promise<void> {
    this.own(source, on ? { on, problem: '' } : { on });
    return this.settle(source);
  }

  /** Opens the device again, after another one was chosen. */
  async reopen(source: 'microphone' | 'camera'): Promise<void> {
    if (!this.media.track(source)) return;
    await this.after(source, async () => {
      await this.open(source);
      await this.session?.setTrack(source, this.media.track(source));
    });
  }

  /** The device is gone, or the person ended the share in the browser's own bar. */
  ended(source: Source): void {
    if (source === 'screen-audio') {
      const id = this.ids.get(source);
      this.ids.delete(source);
      if (id) this.session?.unpublish([id]).catch(() => undefined);
      return;
    }
    void this.set(source, false);
  }

  /** Somebody else muted an own track. The source that it was, '' if it was none that was on. */
  mutedByOther(track: string): OwnSource | '' {
    for (const source of ['microphone', 'camera', 'screen'] as const) {
      if (this.ids.get(source) !== track || !this.store.get().own[source].on) continue;
      this.told.set(source, true);
      void this.set(source, false);
      return source;
    }
    return '';
  }

  // Brings devices and meeting to what is wanted now; earlier wishes may have been overtaken.
  private settle(source: OwnSource): Promise<void> {
    return this.after(source, async () => {
      const on = this.store.get().own[source].on;
      if (source === 'screen') await (on ? this.startScreen() : this.stopScreen());
      else await (on ? this.start(source) : this.stop(source));
    });
  }

  private async start(source: 'microphone' | 'camera'): Promise<void> {
    if (this.media.track(source)?.readyState !== 'live' && !(await this.open(source))) return;
    const track = this.media.track(source);
    if (!track) return;
    track.enabled = true;
    await this.session?.setTrack(source, track);
    await this.tell(source, false);
  }

  private async stop(source: 'microphone' | 'camera'): Promise<void> {
    const track = this.media.track(source);
    if (track) track.enabled = false;
    if (source === 'microphone') {
      await this.tell(source, true); // the device stays open: unmuting is instant
      return;
    }
    // First nothing is sent, then the others are told, then the lamp goes out.
    await this.session?.setTrack(source, null);
    this.media.close(source);
    await this.tell(source, true);
  }

  private async startScreen(): Promise<void> {
    if (!this.media.track('screen') && !(await this.open('screen'))) return;
    if (!this.session || this.ids.has('screen')) return;
    const list = [this.video('screen')];
    if (this.media.track('screen-audio')) list.push({ source: 'screen-audio' });
    await this.publish(list);
    if (!this.ids.has('screen')) {
      this.own('screen', { on: false });
      await this.stopScreen();
    }
  }

  private async stopScreen(): Promise<void> {
    this.media.close('screen');
    this.media.close('screen-audio');
    const published = ['screen', 'screen-audio'] as const;
    const ids = published.flatMap((source) => this.ids.get(source) ?? []);
    for (const source of published) this.ids.delete(source);
    this.own('screen', { track: '' });
    if (ids.length > 0) await this.session?.unpublish(ids).catch((e: unknown) => trace('unpublish', failureOf(e).code));
  }

  private async tell(source: 'microphone' | 'camera', muted: boolean): Promise<void> {
    const session = this.session;
    if (!session) return;
    const id = this.ids.get(source);
    if (!id) {
      if (!muted) await this.publish([source === 'camera' ? this.video(source) : { source }]);
      return;
    }
    if (this.told.get(source) === muted) return;
    this.told.set(source, muted);
    try {
      await session.mute(id, muted);
    } catch (e) {
      if (this.session !== session) return; // a rejoin tells it anew
      this.told.delete(source);
      this.refused(failureOf(e));
    }
  }

  private async publish(list: Publication[]): Promise<void> {
    const session = this.session;
    if (!session) return;
    let tracks: OwnTrack[] = [];
    try {
      ({ tracks } = await session.publish(list));
    } catch (e) {
      const failure = failureOf(e);
      // The reply was lost with the socket, but the replay has told what became of it.
      if (failure.code === 'interrupted') tracks = this.inRoster(list);
      else if (this.session === session) this.refused(failure);
    }
    if (this.session !== session) return;
    for (const { source, track } of tracks) {
      this.ids.set(source, track);
      this.told.set(source, list.find((p) => p.source === source)?.muted ?? false);
      if (source !== 'screen-audio') this.own(source, { track });
    }
  }

  private inRoster(list: Publication[]): OwnTrack[] {
    const { people, me } = this.store.get();
    const mine = people.find((p) => p.id === me)?.tracks ?? [];
    return mine.filter((t) => list.some((p) => p.source === t.source)).map((t) => ({ source: t.source, track: t.id }));
  }

  private async open(source: OwnSource): Promise<boolean> {
    this.own(source, { busy: true, problem: '' });
    try {
      await (source === 'screen' ? this.media.openScreen() : this.media.open(source));
      this.own(source, { busy: false });
      return true;
    } catch (e) {
      const problem = e instanceof MediaFailure ? e.problem : 'busy';
      this.own(source, { busy: false, on: false, problem });
      this.failed(source, problem);
      return false;
    }
  }

  private video(source: 'camera' | 'screen'): Publication {
    const publication: Publication = { source, simulcast: source === 'camera' && !this.mode };
    if (this.codec) publication.codec = this.codec;
    return publication;
  }

  private own(source: OwnSource, set: Partial<State['own'][OwnSource]>): void {
    this.store.dispatch({ type: 'own', source, set });
  }

  private after(source: OwnSource, work: () => Promise<void>): Promise<void> {
    const done = (this.chains.get(source) ?? Promise.resolve()).then(work).catch((e: unknown) => trace(source, String(e)));
    this.chains.set(source, done);
    return done;
  }
}
