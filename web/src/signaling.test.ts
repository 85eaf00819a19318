import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Failure } from './api';
import { Signaling, backoff } from './signaling';
import type { Lost } from './signaling';
import type { JoinOK, ServerEvent } from './wire';

type Frame = Record<string, unknown> & { id: number; type: string };

class FakeSocket {
  static readonly OPEN = 1;
  static all: FakeSocket[] = [];
  readyState = 0;
  sent: Frame[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((m: { data: string }) => void) | null = null;
  onclose: ((c: { code: number }) => void) | null = null;

  constructor() {
    FakeSocket.all.push(this);
  }
  static get last(): FakeSocket {
    return FakeSocket.all[FakeSocket.all.length - 1]!;
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  push(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  break(code = 1006): void {
    this.onclose?.({ code });
  }
  get request(): Frame {
    return this.sent[this.sent.length - 1]!;
  }
  answer(fields: object = {}): void {
    const { id, type } = this.request;
    this.push({ re: id, type: `${type}.ok`, ...fields });
  }
  refuse(code: string, retryAfterMs = 0): void {
    this.push({ re: this.request.id, type: 'error', error: { code, message: code, retryAfterMs } });
  }
}

const reply: Partial<JoinOK> = {
  version: 1, session: 's1', resumeToken: 'r1', participant: 'p1', resumeWindowMs: 30_000, heartbeatMs: 10_000,
};

function setUp() {
  const events: ServerEvent[] = [];
  const status: string[] = [];
  const lost: Lost[] = [];
  const signaling = new Signaling('wss://x/ws', {
    joined: () => undefined,
    event: (e) => events.push(e),
    status: (s) => status.push(s),
    lost: (w) => lost.push(w),
  }, () => 0.5);
  return { signaling, events, status, lost };
}

async function joined() {
  const s = setUp();
  const done = s.signaling.join({ token: 't', name: 'n' });
  FakeSocket.last.open();
  FakeSocket.last.answer(reply);
  await done;
  return s;
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  vi.stubGlobal('WebSocket', FakeSocket);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('backoff grows, stays in its fifth, and stops at four seconds', () => {
  expect([0, 1, 2, 3, 9].map((n) => backoff(n, () => 0.5))).toEqual([300, 1000, 2000, 4000, 4000]);
  expect(backoff(0, () => 0)).toBe(240);
  expect(backoff(3, () => 1)).toBe(4800);
});

describe('join', () => {
  test('opens with the join request', async () => {
    const { signaling } = setUp();
    const done = signaling.join({ token: 't', name: 'Aki' });
    FakeSocket.last.open();
    expect(FakeSocket.last.request).toMatchObject({ id: 1, type: 'join', version: 1, token: 't', name: 'Aki' });
    FakeSocket.last.answer(reply);
    expect((await done).participant).toBe('p1');
  });

  test('fails with the code of the server', async () => {
    const { signaling } = setUp();
    const done = signaling.join({ token: 't', name: 'n' });
    FakeSocket.last.open();
    FakeSocket.last.refuse('room_full');
    await expect(done).rejects.toMatchObject({ code: 'room_full' });
    expect(FakeSocket.last.closed).toBe(true);
  });

  test('fails as network when the socket does not open or is silent', async () => {
    const a = setUp();
    const first = a.signaling.join({ token: 't', name: 'n' });
    const firstFailed = expect(first).rejects.toMatchObject({ code: 'network' });
    FakeSocket.last.break();
    await firstFailed;

    const b = setUp();
    const second = b.signaling.join({ token: 't', name: 'n' });
    const failed = expect(second).rejects.toMatchObject({ code: 'network' });
    FakeSocket.last.open();
    await vi.advanceTimersByTimeAsync(6000);
    await failed;
  });
});

describe('resume', () => {
  test('same session, events after the last one seen, none twice', async () => {
    const { signaling, events, status, lost } = await joined();
    FakeSocket.last.push({ seq: 1, type: 'speaker', participant: 'a' });
    FakeSocket.last.push({ seq: 2, type: 'speaker', participant: 'b' });
    FakeSocket.last.break();
    expect(status).toEqual(['resuming']);
    expect(FakeSocket.all).toHaveLength(1);

    vi.advanceTimersByTime(300);
    expect(FakeSocket.all).toHaveLength(2);
    FakeSocket.last.open();
    expect(FakeSocket.last.request).toMatchObject({ type: 'resume', session: 's1', resumeToken: 'r1', lastSeq: 2 });
    FakeSocket.last.answer({ session: 's1', seq: 4 });
    for (const seq of [2, 3, 4]) FakeSocket.last.push({ seq, type: 'speaker', participant: 'c' });

    expect(events.map((e) => e.type === 'speaker' && e.participant)).toEqual(['a', 'b', 'c', 'c']);
    expect(status).toEqual(['resuming', 'open']);
    expect(lost).toEqual([]);
    signaling.close();
  });

  test('harmless requests are sent again after the replay, a chat line is given up', async () => {
    const { signaling } = await joined();
    const mute = signaling.request('mute', { track: 't1', muted: true });
    const chat = signaling.request('chat', { text: 'hi' });
    const chatFailed = expect(chat).rejects.toMatchObject({ code: 'interrupted' });
    FakeSocket.last.break();
    const later = signaling.request('subscribe', { tracks: ['x'] });
    vi.advanceTimersByTime(300);
    FakeSocket.last.open();
    FakeSocket.last.answer({ session: 's1', seq: 1 });
    expect(FakeSocket.last.sent.map((f) => f.type)).toEqual(['resume']); // replay first
    FakeSocket.last.push({ seq: 1, type: 'speaker', participant: '' });
    expect(FakeSocket.last.sent.map((f) => f.type)).toEqual(['resume', 'mute', 'subscribe']);
    await chatFailed;
    for (const f of FakeSocket.last.sent.slice(1)) FakeSocket.last.push({ re: f.id, type: `${f.type}.ok` });
    await Promise.all([mute, later]);
    signaling.close();
  });

  test('tries with backoff inside the window, then the seat is lost', async () => {
    const { signaling, lost } = await joined();
    FakeSocket.last.break();
    const pending = signaling.request('mute', { track: 't', muted: true }).catch((e: Failure) => e.code);
    let tries = 0;
    for (let second = 0; second < 60 && lost.length === 0; second++) {
      const before = FakeSocket.all.length;
      vi.advanceTimersByTime(1000);
      if (FakeSocket.all.length > before) {
        tries += FakeSocket.all.length - before;
        FakeSocket.last.break();
      }
    }
    expect(lost).toEqual(['expired']);
    expect(tries).toBeGreaterThan(6);
    expect(tries).toBeLessThan(12);
    expect(await pending).toBe('session_gone');
  });

  test('a lost seat is not asked for again', async () => {
    const { lost } = await joined();
    FakeSocket.last.break();
    vi.advanceTimersByTime(300);
    FakeSocket.last.open();
    FakeSocket.last.refuse('session_gone');
    expect(lost).toEqual(['expired']);
    vi.advanceTimersByTime(60_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  test('a busy server is asked again when it said', async () => {
    const { signaling, lost } = await joined();
    FakeSocket.last.break();
    vi.advanceTimersByTime(300);
    FakeSocket.last.open();
    FakeSocket.last.refuse('rate_limited', 2500);
    vi.advanceTimersByTime(2499);
    expect(FakeSocket.all).toHaveLength(2);
    vi.advanceTimersByTime(1);
    expect(FakeSocket.all).toHaveLength(3);
    expect(lost).toEqual([]);
    signaling.close();
  });

  test('a gap in the sequence resumes from before it', async () => {
    const { signaling, events } = await joined();
    FakeSocket.last.push({ seq: 1, type: 'speaker', participant: '' });
    FakeSocket.last.push({ seq: 3, type: 'speaker', participant: '' });
    expect(events).toHaveLength(1);
    vi.advanceTimersByTime(300);
    FakeSocket.last.open();
    expect(FakeSocket.last.request).toMatchObject({ type: 'resume', lastSeq: 1 });
    signaling.close();
  });

  test('a seat taken over elsewhere is over', async () => {
    const { lost } = await joined();
    FakeSocket.last.break(4001);
    expect(lost).toEqual(['replaced']);
    vi.advanceTimersByTime(60_000);
    expect(FakeSocket.all).toHaveLength(1);
  });

  test('a nudge does not wait for the backoff', async () => {
    const { signaling } = await joined();
    FakeSocket.last.break();
    signaling.nudge();
    expect(FakeSocket.all).toHaveLength(2);
    signaling.close();
  });
});

describe('heartbeat', () => {
  test('pings, and a silent socket is dropped', async () => {
    const { signaling, status } = await joined();
    vi.advanceTimersByTime(10_000);
    expect(FakeSocket.last.request.type).toBe('ping');
    FakeSocket.last.answer();
    vi.advanceTimersByTime(10_000);
    expect(FakeSocket.last.sent.filter((f) => f.type === 'ping')).toHaveLength(2);
    vi.advanceTimersByTime(10_000);
    expect(status).toEqual(['resuming']);
    signaling.close();
  });

  test('close is final and may be called twice', async () => {
    const { signaling, status, lost } = await joined();
    signaling.close();
    signaling.close();
    vi.advanceTimersByTime(120_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect([status, lost]).toEqual([[], []]);
  });
});
