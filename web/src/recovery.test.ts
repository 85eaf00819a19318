import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Recovery } from './recovery';

function setUp() {
  const seen: string[] = [];
  let restarts = 0;
  let rejoins = 0;
  const recovery = new Recovery({
    restart: () => {
      restarts++;
      return Promise.resolve();
    },
    rejoin: () => rejoins++,
    media: (media) => seen.push(media),
  });
  return { recovery, seen, count: () => [restarts, rejoins] };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a connection that comes back needs one restart', async () => {
  const { recovery, seen, count } = setUp();
  recovery.ice('checking');
  recovery.ice('connected');
  recovery.ice('disconnected');
  recovery.ice('failed'); // while the request is on its way
  await vi.advanceTimersByTimeAsync(1000);
  recovery.ice('connected');
  await vi.advanceTimersByTimeAsync(120_000);
  expect(count()).toEqual([1, 0]);
  expect(seen).toEqual(['connected', 'interrupted', 'interrupted', 'connected']);
});

test('asks again while it does not help, then starts over once', async () => {
  const { recovery, count } = setUp();
  recovery.ice('connected');
  recovery.ice('disconnected');
  await vi.advanceTimersByTimeAsync(120_000);
  const [restarts = 0, rejoins] = count();
  expect(restarts).toBeGreaterThan(3);
  expect(restarts).toBeLessThan(9);
  expect(rejoins).toBe(1);
});

test('a first connection that does not come is called blocked', async () => {
  const { recovery, seen, count } = setUp();
  recovery.ice('checking');
  await vi.advanceTimersByTimeAsync(11_000);
  expect(seen).toEqual([]);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(seen).toEqual(['blocked']);
  expect(count()).toEqual([1, 0]);
});

test('a change of network asks at once, but not before there was a connection', async () => {
  const { recovery, count } = setUp();
  recovery.networkChanged();
  recovery.server('disconnected');
  expect(count()).toEqual([0, 0]);
  recovery.ice('connected');
  recovery.networkChanged();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(count()).toEqual([1, 0]);
});

test('after stop nothing happens', async () => {
  const { recovery, seen, count } = setUp();
  recovery.ice('connected');
  recovery.ice('disconnected');
  recovery.stop();
  recovery.ice('failed');
  await vi.advanceTimersByTimeAsync(120_000);
  expect(count()).toEqual([1, 0]);
  expect(seen).toEqual(['connected', 'interrupted']);
});

test('a session that the server has given up is made anew at once', async () => {
  const { recovery, count } = setUp();
  recovery.ice('connected');
  recovery.server('failed');
  await vi.advanceTimersByTimeAsync(120_000);
  expect(count()).toEqual([0, 1]);
});
