import { expect, test } from 'vitest';
import { layersFor } from './encodings';

test('three layers, low to high, of a 720-line camera', () => {
  expect(layersFor('camera', 3, { width: 1280, height: 720 })).toEqual([
    { active: true, scaleResolutionDownBy: 4, maxBitrate: 150_000 },
    { active: true, scaleResolutionDownBy: 2, maxBitrate: 500_000 },
    { active: true, scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
  ]);
});

test('a camera that is off counts as 720 lines', () => {
  expect(layersFor('camera', 3, { width: 0, height: 0 })).toEqual(layersFor('camera', 3, { width: 1280, height: 720 }));
});

test('a small capture has its full picture in a lower encoding', () => {
  expect(layersFor('camera', 3, { width: 640, height: 480 })).toEqual([
    { active: true, scaleResolutionDownBy: 2, maxBitrate: 500_000 },
    { active: true, scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
    { active: false, scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
  ]);
  expect(layersFor('camera', 3, { width: 320, height: 240 }).map((l) => [l.active, l.scaleResolutionDownBy])).toEqual([
    [true, 1], [false, 1], [false, 1],
  ]);
  expect(layersFor('camera', 3, { width: 540, height: 960 }).map((l) => l.active)).toEqual([true, true, true]);
});

test('what nobody wants is off, and changes nothing about the others', () => {
  const all = layersFor('camera', 3, { width: 1280, height: 720 });
  for (const [wanted, active] of [[3, 3], [2, 2], [1, 1], [0, 1], [9, 3]] as const) {
    const layers = layersFor('camera', 3, { width: 1280, height: 720 }, wanted);
    expect(layers).toEqual(all.map((layer, i) => ({ ...layer, active: i < active })));
  }
  expect(layersFor('camera', 3, { width: 640, height: 480 }, 3).map((l) => l.active)).toEqual([true, true, false]);
  expect(layersFor('camera', 3, { width: 640, height: 480 }, 1).map((l) => l.active)).toEqual([true, false, false]);
});

test('one layer is the full picture', () => {
  expect(layersFor('screen', 1, { width: 1920, height: 1080 })).toEqual([{ active: true, scaleResolutionDownBy: 1, maxBitrate: 2_500_000 }]);
});
