// The signaling session: one WebSocket after another that are one session to
// everybody else. Owns request ids, the sequence of events, the heartbeat and
// resuming. Promises: events reach the handler in order, each once; a request
// survives a drop of the socket unless doing it twice would show (chat,
// publish), then it fails as `interrupted` once the replay is through. Does not
// rejoin: when the seat is gone it says so and is done.

import { Failure } from './api';
import { trace } from './trace';
import { closeCodes, protocolVersion, subprotocol } from './wire';
import type { ClientRequest, JoinOK, JoinRequest, ReplyTo, ResumeOK, ServerEvent, WireError } from './wire';

/** Why a session is over without our asking. */
export type Lost = 'expired' | 'replaced' | 'removed' | 'refused';

export interface SignalingHandler {
  /** Runs before the first event of the session can arrive. */
  joined(reply: JoinOK): void;
  event(event: ServerEvent): void;
  status(status: 'open' | 'resuming'): void;
  lost(why: Lost): void;
}

type Timer = ReturnType<typeof setTimeout>;
type RequestType = ClientRequest['type'];
/** What a request says beside its type. */
export type Fields<T extends RequestType> = Omit<Extract<ClientRequest, { type: T }>, 'type'>;

interface Pending {
  body: object | null; // null for join, resume and ping: they belong to their socket
  resend: boolean; // doing it twice does no harm
  sent: boolean;
  resolve(reply: unknown): void;
  reject(failure: Failure): void;
}

interface Seat {
  session: string;
  resumeToken: string;
  resumeWindowMs: number;
  heartbeatMs: number;
}

const terminal: ReadonlyMap<number, Lost> = new Map<number, Lost>([
  [closeCodes.takenOver, 'replaced'],
  [closeCodes.violation, 'refused'],
  [closeCodes.removed, 'removed'],
  [closeCodes.expired, 'expired'],
  [closeCodes.goingAway, 'expired'],
]);
const attemptTimeoutMs = 6000;
const probeTimeoutMs = 3000;
const queuedRequests = 64;
const backoffMs = [300, 1000, 2000, 4000];
const onceOnly: ReadonlySet<RequestType> = new Set<RequestType>(['chat', 'publish']);
const retryableResume: ReadonlySet<string> = new Set(['internal', 'rate_limited', 'too_many']);

/** The wait before attempt n (from 0): 0.3, 1, 2, 4, 4 … s, give or take a fifth, so that a room does not come back as one. */
export function backoff(attempt: number, random: () => number): number {
  const base = backoffMs[Math.min(attempt, backoffMs.length - 1)] ?? 0;
  return Math.round(base * (0.8 + 0.4 * random()));
}

export class Signaling {
  private readonly url: string;
  private readonly handler: SignalingHandler;
  private readonly random: () => number;

  private state: 'idle' | 'joining' | 'open' | 'resuming' | 'closed' = 'idle';
  private socket: WebSocket | null = null;
  private seat: Seat | null = null;
  private lastSeq = 0;
  private replayUntil = 0; // events up to here are a replay after a resume
  private flushed = true; // requests held back until the replay is through

  private nextId = 1;
  private readonly pending = new Map<number, Pending>();

  private droppedAt = 0;
  private attempt = 0;
  private retryTimer: Timer | undefined;
  private attemptTimer: Timer | undefined;
  private heartbeatTimer: Timer | undefined;

  constructor(url: string, handler: SignalingHandler, random: () => number = Math.random) {
    this.url = url;
    this.handler = handler;
    this.random = random;
  }

  /** Opens the session. Fails without retry: who joins wants to know. */
  join(request: Omit<JoinRequest, 'type' | 'version'>): Promise<JoinOK> {
    return new Promise((resolve, reject) => {
      this.state = 'joining';
      const fail = (failure: Failure) => {
        reject(failure); // first: closing rejects what is pending with another code
        this.close();
      };
      this.connect({
        opened: (socket) => {
          const id = this.nextId++;
          this.pending.set(id, {
            body: null, resend: false, sent: true,
            resolve: (reply) => {
              const ok = reply as JoinOK;
              this.seat = ok;
              this.enter();
              this.handler.joined(ok);
              resolve(ok);
            },
            reject: fail,
          });
          socket.send(JSON.stringify({ id, type: 'join', version: protocolVersion, ...request }));
        },
        failed: () => fail(new Failure('network')),
      });
    });
  }

  /** Sends now, or after the resume that is under way. */
  request<T extends RequestType>(type: T, fields: Fields<T>): Promise<ReplyTo[T]> {
    return new Promise((resolve, reject) => {
      if (this.state !== 'open' && this.state !== 'resuming') {
        reject(new Failure('session_gone'));
        return;
      }
      if (this.pending.size >= queuedRequests) {
        reject(new Failure('rate_limited'));
        return;
      }
      const pending: Pending = {
        body: { ...fields, type },
        resend: !onceOnly.has(type),
        sent: false,
        resolve: resolve as (reply: unknown) => void,
        reject,
      };
      const id = this.nextId++;
      this.pending.set(id, pending);
      if (this.state === 'open' && this.flushed) this.send(id, pending);
    });
  }

  /** The network may have changed: retry now, or see whether the socket still lives. */
  nudge(): void {
    if (this.state === 'resuming') {
      clearTimeout(this.retryTimer);
      this.resume();
    } else if (this.state === 'open') {
      this.ping(probeTimeoutMs);
    }
  }

  /** Ends the socket as a broken network would; the session resumes. For tests. */
  drop(): void {
    if (this.state === 'open') this.dropped(0);
  }

  /** Leaves politely: tells the server and is gone. */
  leave(): void {
    if (this.state === 'open' && this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ id: this.nextId++, type: 'leave' }));
    }
    this.close();
  }

  /** Ends without a word. May be called twice. */
  close(): void {
    this.state = 'closed';
    this.detach(1000);
    clearTimeout(this.retryTimer);
    const failure = new Failure('session_gone');
    const waiting = [...this.pending.values()];
    this.pending.clear();
    for (const p of waiting) p.reject(failure);
  }

  // A socket, until it fails or is replaced. `opened` sends the first request.
  private connect(on: { opened(socket: WebSocket): void; failed(code: number): void }): void {
    this.detach(1000);
    let socket: WebSocket;
    try {
      socket = new WebSocket(this.url, subprotocol);
    } catch {
      on.failed(0);
      return;
    }
    this.socket = socket;
    const ended = (why: string, code: number) => {
      trace('ws ended', `${why} ${code}`);
      this.detach(1000);
      if (this.state === 'open') this.dropped(code);
      else on.failed(code);
    };
    this.attemptTimer = setTimeout(() => ended('timeout', 0), attemptTimeoutMs);
    socket.onopen = () => on.opened(socket);
    socket.onmessage = (message) => {
      const why = this.receive(String(message.data));
      if (why !== '') ended(why, 0);
    };
    socket.onclose = (close) => ended('closed', close.code);
  }

  private detach(code: number): void {
    clearTimeout(this.attemptTimer);
    clearTimeout(this.heartbeatTimer);
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close(code);
    for (const [id, p] of this.pending) {
      if (p.body === null && this.state !== 'joining') this.pending.delete(id);
    }
  }

  private enter(): void {
    clearTimeout(this.attemptTimer);
    this.state = 'open';
    this.attempt = 0;
    this.beat();
  }

  private dropped(code: number): void {
    this.detach(1000);
    const why = terminal.get(code);
    if (why) return this.end(why);
    this.state = 'resuming';
    this.droppedAt = Date.now();
    this.attempt = 0;
    this.handler.status('resuming');
    this.retryLater();
  }

  private retryLater(atLeastMs = 0): void {
    const seat = this.seat;
    if (!seat || this.state !== 'resuming') return;
    const wait = Math.max(atLeastMs, backoff(this.attempt++, this.random));
    if (Date.now() + wait - this.droppedAt > seat.resumeWindowMs) return this.end('expired');
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.resume(), wait);
  }

  private resume(): void {
    const seat = this.seat;
    if (!seat || this.state !== 'resuming') return;
    this.connect({
      opened: (socket) => {
        const id = this.nextId++;
        this.pending.set(id, {
          body: null, resend: false, sent: true,
          resolve: (reply) => {
            this.enter();
            this.flushed = false;
            this.replayUntil = (reply as ResumeOK).seq;
            trace('signaling resumed', `${this.lastSeq} to ${this.replayUntil}`);
            this.handler.status('open');
            this.flush();
          },
          reject: (failure) => {
            trace('resume refused', failure.code);
            this.detach(1000);
            if (retryableResume.has(failure.code)) this.retryLater(failure.retryAfterMs);
            else this.end('expired');
          },
        });
        socket.send(JSON.stringify({
          id, type: 'resume', version: protocolVersion, session: seat.session, resumeToken: seat.resumeToken, lastSeq: this.lastSeq,
        }));
      },
      failed: (code) => {
        const why = terminal.get(code);
        if (why) this.end(why);
        else this.retryLater();
      },
    });
  }

  private end(why: Lost): void {
    if (this.state === 'closed') return;
    this.close();
    this.handler.lost(why);
  }

  // What is wrong with the frame, '' if nothing.
  private receive(text: string): string {
    let frame: { re?: number; type: string; seq?: number; error?: WireError };
    try {
      frame = JSON.parse(text);
    } catch {
      return 'not json';
    }
    if (frame.re !== undefined) {
      this.reply(frame.re, frame);
      return '';
    }
    if (frame.seq === undefined || this.state !== 'open') return 'unexpected frame';
    if (frame.seq <= this.lastSeq) return ''; // seen before the drop
    if (frame.seq !== this.lastSeq + 1) return 'gap'; // the resume asks again from where we stand
    this.lastSeq = frame.seq;
    this.handler.event(frame as unknown as ServerEvent);
    this.flush();
    return '';
  }

  private reply(id: number, frame: { type: string; error?: WireError }): void {
    const pending = this.pending.get(id);
    if (!pending) return;
    this.pending.delete(id);
    if (frame.type === 'error') {
      const e = frame.error;
      pending.reject(new Failure(e?.code ?? 'internal', e?.message, e?.retryAfterMs ?? 0));
    } else {
      pending.resolve(frame);
    }
  }

  // After a resume: once the replay is through, what was on its way is sent
  // again or given up, and what came meanwhile is sent.
  private flush(): void {
    if (this.flushed || this.state !== 'open' || this.lastSeq < this.replayUntil) return;
    this.flushed = true;
    for (const [id, p] of [...this.pending]) {
      if (p.body === null) continue;
      this.pending.delete(id);
      if (p.sent && !p.resend) {
        p.reject(new Failure('interrupted'));
        continue;
      }
      const again = this.nextId++; // an id is used once in a session
      this.pending.set(again, p);
      this.send(again, p);
    }
  }

  private send(id: number, pending: Pending): void {
    pending.sent = true;
    this.socket?.send(JSON.stringify({ ...pending.body, id }));
  }

  private beat(): void {
    clearTimeout(this.heartbeatTimer);
    const every = this.seat?.heartbeatMs || 10_000;
    this.heartbeatTimer = setTimeout(() => this.ping(every), every);
  }

  // A background tab's timers come late, so silence is counted from the ping
  // and not from the last message.
  private ping(timeoutMs: number): void {
    clearTimeout(this.heartbeatTimer);
    if (this.state !== 'open' || !this.socket) return;
    const id = this.nextId++;
    const socket = this.socket;
    this.pending.set(id, {
      body: null, resend: false, sent: true,
      resolve: () => this.beat(),
      reject: () => this.beat(), // an error is a sign of life too
    });
    socket.send(JSON.stringify({ id, type: 'ping', lastSeq: this.lastSeq }));
    this.heartbeatTimer = setTimeout(() => {
      this.pending.delete(id);
      if (this.socket === socket) this.dropped(0);
    }, timeoutMs);
  }
}
