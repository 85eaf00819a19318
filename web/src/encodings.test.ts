import { expect, test } from 'vitest';
import { layersFor } from './encodings';

test('three layers, low to high, of a 720-line camera', () => {
  expect(layersFor('camera', 3, 720)).toEqual([
    { active: true, scaleResolutionDownBy: 4, maxBitrate: 150_000 },
    { active: true, scaleResolutionDownBy: 2, maxBitrate: 500_000 },
    { active: true, scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
  ]);
});

test('a camera that is off counts as 720 lines', () => {
  expect(layersFor('camera', 3, 0)).toEqual(layersFor('camera', 3, 720));
});

test('a small capture keeps its upper layers', () => {
  expect(layersFor('camera', 3, 360).map((l) => l.active)).toEqual([false, true, true]);
  expect(layersFor('camera', 3, 240).map((l) => [l.active, l.maxBitrate])).toEqual([
    [false, 150_000], [true, 150_000], [true, 500_000],
  ]);
});

test('one layer is the full picture', () => {
  expect(layersFor('screen', 1, 1080)).toEqual([{ active: true, scaleResolutionDownBy: 1, maxBitrate: 2_500_000 }]);
});
