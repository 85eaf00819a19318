import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Failure } from './api';
import { initialState } from './state';
import type { State } from './state';
import { Views, viewsOf } from './views';
import type { Shown } from './views';
import type { TrackView } from './wire';

const shown = (width: number, height: number, pinned = false): Shown => ({ width, height, pinned });

let sent: TrackView[][];
let answer: (views: TrackView[]) => Promise<unknown>;
let views: Views;

beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  answer = () => Promise.resolve();
  views = new Views((v) => {
    sent.push(v);
    return answer(v);
  });
});
afterEach(() => vi.useRealTimers());

const show = (list: Record<string, Shown>) => views.show(new Map(Object.entries(list)));

test('a window that is resized makes a few requests a second, with the last size', async () => {
  for (let i = 0; i < 100; i++) {
    show({ a: shown(320 + 16 * i, 180) });
    await vi.advanceTimersByTimeAsync(10);
  }
  await vi.advanceTimersByTimeAsync(1000);
  expect(sent.length).toBeGreaterThanOrEqual(4);
  expect(sent.length).toBeLessThanOrEqual(6);
  expect(sent.at(-1)).toEqual([{ track: 'a', width: 320 + 16 * 99, height: 192 }]);
});

test('only what changed is told, and small changes are none', async () => {
  show({ a: shown(320, 180), b: shown(640, 360, true) });
  await vi.advanceTimersByTimeAsync(300);
  show({ a: shown(315, 178), b: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(300);
  show({ a: shown(315, 178), b: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(300);
  expect(sent).toEqual([
    [{ track: 'a', width: 320, height: 192 }, { track: 'b', width: 640, height: 368, pinned: true }],
    [{ track: 'b', width: 640, height: 368 }],
  ]);
});

test('what comes into sight is told at once', async () => {
  show({ a: shown(0, 0) });
  await vi.advanceTimersByTimeAsync(1000);
  show({ a: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(1);
  expect(sent).toHaveLength(2);
  show({ a: shown(0, 0) });
  await vi.advanceTimersByTimeAsync(199);
  expect(sent).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(1);
  expect(sent.at(-1)).toEqual([{ track: 'a', width: 0, height: 0 }]);
});

test('a change that is taken back is not told', async () => {
  show({ a: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(300);
  show({ a: shown(0, 0) });
  show({ a: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(1000);
  expect(sent).toHaveLength(1);
});

test('a refusal is tried again with what holds then', async () => {
  answer = () => Promise.reject(new Failure('rate_limited', '', 500));
  show({ a: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(250);
  expect(sent).toHaveLength(1);
  answer = () => Promise.resolve();
  await vi.advanceTimersByTimeAsync(500);
  expect(sent).toHaveLength(2);
  expect(sent[1]).toEqual(sent[0]);
  await vi.advanceTimersByTimeAsync(5000);
  expect(sent).toHaveLength(2);
});

test('a lost seat is told nothing more, nor after close', async () => {
  answer = () => Promise.reject(new Failure('session_gone'));
  show({ a: shown(640, 360) });
  await vi.advanceTimersByTimeAsync(5000);
  expect(sent).toHaveLength(1);
  show({ a: shown(320, 180) });
  views.close();
  await vi.advanceTimersByTimeAsync(5000);
  expect(sent).toHaveLength(1);
});

test('more tracks than a request may name', async () => {
  show(Object.fromEntries(Array.from({ length: 130 }, (_, i) => [`t${i}`, shown(320, 180)])));
  await vi.advanceTimersByTimeAsync(300);
  expect(sent.map((v) => v.length)).toEqual([64, 64, 2]);
});

test('pictures of the others go by their tiles; those without one are not seen', () => {
  const track = (id: string, source: 'camera' | 'microphone' | 'screen', muted = false) =>
    ({ id, source, kind: source === 'microphone' ? 'audio' as const : 'video' as const, codec: 'vp8', muted, simulcast: true, live: true });
  const person = (id: string, ...tracks: ReturnType<typeof track>[]) => ({ id, name: id, role: 'participant' as const, tracks, connected: true });
  const s: State = {
    ...initialState('', 'en'), me: 'me', people: [
      person('me', track('t1', 'camera')),
      person('a', track('t2', 'camera', true), track('t3', 'microphone'), track('t4', 'screen')),
      person('b', track('t5', 'camera')),
    ],
  };
  expect(viewsOf(s, new Map([['a', shown(320, 180)], ['a/screen', shown(1280, 720, true)]]))).toEqual(new Map([
    ['t2', shown(320, 180)], ['t4', shown(1280, 720, true)], ['t5', shown(0, 0)],
  ]));
});
