import { expect, test } from 'vitest';
import { scalabilityOf } from './scalability';
import type { Ask } from './scalability';

const knows = (...modes: string[]): Ask => (c) => Promise.resolve({ supported: modes.includes(`${c.video!.contentType} ${c.video!.scalabilityMode}`) });

test('layers between key frames that stand alone are the first choice', async () => {
  expect(await scalabilityOf('vp9', knows('video/VP9 L1T3', 'video/VP9 L3T3_KEY'))).toBe('L3T3_KEY');
  expect(await scalabilityOf('av1', knows('video/AV1 L1T3'))).toBe('L1T3');
});

test('what the browser cannot do is not asked of it', async () => {
  expect(await scalabilityOf('av1', knows())).toBe('');
  expect(await scalabilityOf('vp9', undefined)).toBe('');
  expect(await scalabilityOf('vp9', () => Promise.reject(new TypeError('Inapplicable member')))).toBe('');
});

test('other codecs stay with several streams', async () => {
  for (const codec of ['', 'vp8', 'h264']) expect(await scalabilityOf(codec, () => Promise.resolve({ supported: true }))).toBe('');
});
