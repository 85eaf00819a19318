// A stay in a meeting: takes a seat, keeps it through drops and restarts, gives
// it up. Ties signaling, the peer connection and own tracks together and turns
// what happens into actions for the store. Does not draw.

import { Failure, failureOf, joinToken } from './api';
import type { AudioSinks } from './audio';
import { Peer } from './peer';
import type { Publishing } from './publishing';
import { Recovery } from './recovery';
import { forgetHost, hostToken } from './settings';
import { Signaling, backoff } from './signaling';
import type { Lost } from './signaling';
import { wantedTracks } from './state';
import type { Action, OwnSource, Over, State } from './state';
import type { Store } from './store';
import { trace } from './trace';
import { Views, viewsOf } from './views';
import type { Shown } from './views';
import { limits } from './wire';
import type { JoinOK, OfferEvent, Publication, RecordingEnd, ServerEvent } from './wire';

/** What the people in front of the page should hear of. */
export interface RoomHooks {
  came(name: string): void;
  went(name: string, removed: boolean): void;
  mutedByHost(source: OwnSource): void;
  wrote(name: string, text: string): void;
  back(): void;
  recordingOver(ended: RecordingEnd | ''): void;
}

const rejoinForMs = 5 * 60_000;
// Codes that trying again does not change.
const final: ReadonlySet<string> = new Set([
  'bad_request', 'unsupported_version', 'unauthorized', 'forbidden', 'room_closed', 'not_found', 'unsupported_codec',
]);

export class Room {
  private readonly store: Store<State, Action>;
  private readonly publishing: Publishing;
  private readonly sinks: AudioSinks;
  private readonly hooks: RoomHooks;

  private signaling: Signaling | null = null;
  private peerNow: Peer | null = null;
  private recovery: Recovery | null = null;
  private views: Views | null = null;
  private sizes: ReadonlyMap<string, Shown> = new Map(); // of tiles, by their keys
  private subscribed = new Set<string>();
  private stay = 0; // counts up when a stay ends, so that what is late for it is noticed

  constructor(store: Store<State, Action>, publishing: Publishing, sinks: AudioSinks, hooks: RoomHooks) {
    this.store = store;
    this.publishing = publishing;
    this.sinks = sinks;
    this.hooks = hooks;
  }

  get peer(): Peer | null {
    return this.peerNow;
  }

  /** Takes a seat. Fails with a Failure if the server or the network refuses. */
  async enter(): Promise<void> {
    const stay = this.stay;
    const { room, name } = this.store.get();
    const token = await seatToken(room, name);
    const publish = await this.publishing.publications();
    if (stay !== this.stay) throw new Failure('interrupted');
    const url = new URL('/ws', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const signaling: Signaling = new Signaling(url.href, {
      joined: (reply) => this.joined(signaling, reply, publish),
      event: (e) => this.signaling === signaling && this.event(e),
      status: (status) => this.signaling === signaling && this.status(status),
      lost: (why) => this.signaling === signaling && this.lost(why),
    });
    this.signaling = signaling;
    await signaling.join({ token, name, publish, client: 'web/1' });
  }

  /** Gives the seat up. */
  leave(): void {
    this.stay++;
    this.signaling?.leave();
    this.tearDown();
  }

  async chat(text: string): Promise<void> {
    await this.need().request('chat', { text });
  }

  async moderate(action: 'mute' | 'remove', participant: string, track?: string): Promise<void> {
    await this.need().request('moderate', track ? { action, participant, track } : { action, participant });
  }

  async record(on: boolean): Promise<void> {
    await this.need().request(on ? 'record.start' : 'record.stop', {});
  }

  /** Asks for new ICE credentials, as after a change of network. */
  async restart(): Promise<void> {
    await this.need().request('restart', {});
  }

  /** How large the tiles are, by their keys; those that are not there are not to be seen. */
  showing(sizes: ReadonlyMap<string, Shown>): void {
    this.sizes = sizes;
    this.show();
  }

  networkChanged(): void {
    this.signaling?.nudge();
    this.recovery?.networkChanged();
  }

  /** Breaks the socket as a bad network would. For tests. */
  dropSocket(): void {
    this.signaling?.drop();
  }

  private need(): Signaling {
    if (!this.signaling) throw new Failure('session_gone');
    return this.signaling;
  }

  private joined(signaling: Signaling, reply: JoinOK, publish: Publication[]): void {
    if (this.signaling !== signaling) return;
    trace('joined', reply.participant);
    this.subscribed = new Set();
    this.views = new Views((views) => signaling.request('view', { views }));
    const recovery = new Recovery({
      restart: () => signaling.request('restart', {}),
      rejoin: () => this.signaling === signaling && void this.rejoin(0),
      media: (media) => this.store.dispatch({ type: 'media', media }),
    });
    const peer = new Peer(reply.iceServers, {
      trackFor: (source) => this.publishing.trackFor(source),
      modeFor: (source) => this.publishing.modeFor(source),
      changed: () => this.receiversChanged(peer),
      iceState: (state) => this.peerNow === peer && recovery.ice(state),
    });
    this.recovery = recovery;
    this.peerNow = peer;
    this.store.dispatch({ type: 'joined', reply });
    this.publishing.attach({
      setTrack: (source, track) => peer.setTrack(source, track),
      mute: (track, muted) => signaling.request('mute', { track, muted }),
      publish: (publications) => signaling.request('publish', { publications }),
      unpublish: (tracks) => signaling.request('unpublish', { tracks }),
    }, publish, reply.tracks);
    this.subscribe();
  }

  private event(e: ServerEvent): void {
    const before = this.store.get();
    this.store.dispatch({ type: 'event', event: e });
    switch (e.type) {
      case 'offer':
        void this.answer(e);
        return;
      case 'media':
        trace('media', e.state);
        this.recovery?.server(e.state);
        return;
      case 'slots':
        this.playSound();
        return;
      case 'demand':
        trace('demand', `${e.track} ${e.layers}`);
        void this.peerNow?.demand(e.track, e.layers);
        return;
      case 'joined':
        if (!e.participant.broadcast) this.hooks.came(e.participant.name); // that one has a mark
        break;
      case 'left': {
        const who = before.people.find((p) => p.id === e.participant);
        if (who && !who.broadcast) this.hooks.went(who.name, e.reason === 'removed');
        this.playSound();
        break;
      }
      case 'trackMuted':
        if (e.participant === before.me && e.muted && e.by !== before.me) {
          const source = this.publishing.mutedByOther(e.track);
          if (source) this.hooks.mutedByHost(source);
        }
        return;
      case 'trackRemoved':
        this.playSound();
        break;
      case 'chat':
        if (e.from !== before.me && before.panel !== 'chat') this.hooks.wrote(e.name, e.text);
        return;
      case 'recording': // that it begins is said by the mark itself
        if (before.recording.active && !e.recording.active) this.hooks.recordingOver(e.recording.ended ?? '');
        return;
      case 'removed':
        this.over(e.reason === 'room_closed' ? 'ended' : 'removed');
        return;
      case 'closing':
        this.store.dispatch({ type: 'link', link: 'closing' });
        void this.rejoin(e.retryAfterMs + Math.random() * 500);
        return;
      default:
        break;
    }
    this.subscribe();
  }

  private async answer(offer: OfferEvent): Promise<void> {
    const { peerNow: peer, signaling } = this;
    if (!peer || !signaling) return;
    trace('offer', offer.number);
    try {
      const sdp = await peer.answer(offer);
      if (this.peerNow !== peer) return;
      await signaling.request('answer', { number: offer.number, sdp });
      trace('answered', offer.number);
    } catch (e) {
      if (this.peerNow !== peer) return;
      const failure = failureOf(e);
      trace('answer failed', `${failure.code} ${failure.message}`);
      // A stale offer is followed by a newer one; anything else leaves the two ends apart, and only a new start mends that.
      if (failure.code !== 'stale_offer') void this.rejoin(1000);
    }
  }

  private show(): void {
    this.views?.show(viewsOf(this.store.get(), this.sizes));
  }

  // Asks for every track of the others, what came in one turn of the event loop in one request.
  private subscribe(): void {
    this.show();
    queueMicrotask(() => {
      const signaling = this.signaling;
      if (!signaling) return;
      const wanted = new Set(wantedTracks(this.store.get()));
      for (const id of this.subscribed) if (!wanted.has(id)) this.subscribed.delete(id);
      const missing = [...wanted].filter((id) => !this.subscribed.has(id));
      for (let i = 0; i < missing.length; i += limits.tracksPerRequest) {
        const tracks = missing.slice(i, i + limits.tracksPerRequest);
        for (const id of tracks) this.subscribed.add(id);
        signaling.request('subscribe', { tracks }).catch((e: unknown) => {
          trace('subscribe failed', failureOf(e).code);
          if (this.signaling !== signaling) return;
          for (const id of tracks) this.subscribed.delete(id);
          const { code, retryAfterMs } = failureOf(e);
          if (code === 'rate_limited' || code === 'internal') setTimeout(() => this.subscribe(), retryAfterMs || 1000);
        });
      }
    });
  }

  private receiversChanged(peer: Peer): void {
    if (this.peerNow !== peer) return;
    this.store.dispatch({ type: 'receivers' });
    this.playSound();
  }

  private playSound(): void {
    const { slots, people } = this.store.get();
    const audio = new Set(people.flatMap((p) => p.tracks.filter((t) => t.kind === 'audio').map((t) => t.id)));
    const playing = new Map<string, MediaStreamTrack>();
    for (const slot of slots) {
      const track = audio.has(slot.track) ? this.peerNow?.receiver(slot.mid) : null;
      if (track) playing.set(slot.mid, track);
    }
    this.sinks.sync(playing);
  }

  private status(status: 'open' | 'resuming'): void {
    this.store.dispatch({ type: 'link', link: status });
    if (status === 'open') this.hooks.back();
  }

  private lost(why: Lost): void {
    trace('seat lost', why);
    switch (why) {
      case 'expired':
        void this.rejoin(0);
        break;
      case 'replaced':
        this.over('replaced');
        break;
      case 'removed':
        this.over('removed');
        break;
      case 'refused':
        this.over('failed', 'rate_limited');
        break;
    }
  }

  // A fresh seat with a fresh token and a fresh connection; tries until it
  // works, is refused for good, or five minutes have passed.
  private async rejoin(waitMs: number): Promise<void> {
    const stay = ++this.stay;
    const closing = this.store.get().link === 'closing';
    this.signaling?.close();
    this.tearDown();
    if (!closing) this.store.dispatch({ type: 'link', link: 'rejoining' });
    this.store.dispatch({ type: 'media', media: 'connecting' });
    const until = Date.now() + rejoinForMs;
    let wait = waitMs;
    for (let attempt = 0; ; attempt++) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (stay !== this.stay) return;
      try {
        await this.enter();
        this.hooks.back();
        return;
      } catch (e) {
        if (stay !== this.stay) return;
        const failure = failureOf(e);
        trace('rejoin failed', failure.code);
        if (failure.code === 'room_closed') return this.over('ended');
        if (final.has(failure.code) || Date.now() > until) return this.over('failed', failure.code);
        wait = Math.max(failure.retryAfterMs, backoff(attempt, Math.random));
      }
    }
  }

  private over(over: Over, code?: string): void {
    this.stay++;
    this.signaling?.close();
    this.tearDown();
    this.store.dispatch(code ? { type: 'over', over, code } : { type: 'over', over });
  }

  private tearDown(): void {
    this.recovery?.stop();
    this.recovery = null;
    this.views?.close();
    this.views = null;
    this.publishing.detach();
    this.peerNow?.close();
    this.peerNow = null;
    this.signaling = null;
    this.sinks.sync(new Map());
  }
}

// Who opened the meeting comes back as its host; if the server no longer takes
// the proof of it (its keys were changed), as everybody else.
async function seatToken(room: string, name: string): Promise<string> {
  const host = hostToken(room);
  if (host) {
    try {
      return (await joinToken(room, name, host)).token;
    } catch (e) {
      if (!['unauthorized', 'forbidden', 'token_expired', 'bad_request'].includes(failureOf(e).code)) throw e;
      forgetHost(room);
    }
  }
  return (await joinToken(room, name)).token;
}
