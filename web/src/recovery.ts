// Decides when to ask for new ICE credentials and when to start over, from what
// the browser, the server and the network say. Asks again while it does not
// help; a connection that stays away for half a minute is made anew.

import type { Media } from './state';
import { trace } from './trace';
import type { MediaState } from './wire';

export interface RecoveryHooks {
  restart(): Promise<unknown>;
  rejoin(): void;
  media(media: Media): void;
}

const patienceMs = 12_000; // for the first connection
const againMs = 5_000;
const asksAtMost = 6;

export class Recovery {
  private readonly hooks: RecoveryHooks;
  private connected = false;
  private wasConnected = false;
  private asking = false;
  private asks = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private stopped = false;

  constructor(hooks: RecoveryHooks) {
    this.hooks = hooks;
  }

  ice(state: RTCIceConnectionState): void {
    if (this.stopped) return;
    switch (state) {
      case 'checking':
        if (!this.wasConnected) this.later(patienceMs);
        break;
      case 'connected':
      case 'completed':
        this.connected = this.wasConnected = true;
        this.asks = 0;
        clearTimeout(this.timer);
        this.hooks.media('connected');
        break;
      case 'disconnected':
      case 'failed':
        this.lost();
        break;
    }
  }

  /** The server's view; it may know before the browser. */
  server(state: MediaState): void {
    if (!this.stopped && state === 'failed') {
      // The server has given the session up; new credentials cannot bring it back.
      this.stop();
      this.hooks.rejoin();
      return;
    }
    if (!this.stopped && state === 'disconnected' && this.wasConnected) this.ask();
  }

  /** Another network: the old path may be dead though nobody has noticed. */
  networkChanged(): void {
    if (!this.stopped && this.wasConnected) this.ask();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  private lost(): void {
    this.connected = false;
    this.hooks.media(this.wasConnected ? 'interrupted' : 'blocked');
    this.ask();
  }

  private ask(): void {
    if (this.asking || this.stopped) return;
    this.asking = true;
    trace('ask for ICE restart');
    this.hooks.restart().catch(() => undefined).finally(() => {
      this.asking = false;
      if (!this.connected) this.later(againMs);
    });
  }

  private later(ms: number): void {
    clearTimeout(this.timer);
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      if (this.connected || this.stopped) return;
      if (++this.asks > asksAtMost) {
        this.stop();
        this.hooks.rejoin();
      } else {
        this.lost();
      }
    }, ms);
  }
}
