import { expect, test } from 'vitest';
import { bestGrid, visible } from './layout';

test('columns follow the shape of the area', () => {
  expect(bestGrid(2, 1600, 800, 10).columns).toBe(2);
  expect(bestGrid(2, 400, 800, 10).columns).toBe(1);
  expect(bestGrid(4, 1600, 900, 10).columns).toBe(2);
  expect(bestGrid(9, 1600, 900, 10).columns).toBe(3);
});

test('tiles fit into the area', () => {
  for (const [w, h] of [[1280, 640], [370, 720]] as const) {
    for (let n = 1; n <= 49; n++) {
      const { columns, width, height } = bestGrid(n, w, h, 12);
      const rows = Math.ceil(n / columns);
      expect(columns * width + (columns - 1) * 12).toBeLessThanOrEqual(w);
      expect(rows * height + (rows - 1) * 12).toBeLessThanOrEqual(h);
    }
  }
});

test('an upright screen has upright tiles', () => {
  const { width, height } = bestGrid(6, 370, 720, 12);
  expect(height).toBeGreaterThan(width);
});

test('who speaks is seen even in a crowd', () => {
  const crowd = Array.from({ length: 10 }, (_, i) => ({ i, speaking: i === 8 }));
  const { shown, hidden } = visible(crowd, 5);
  expect(shown.map((tile) => tile.i)).toEqual([0, 1, 2, 8]);
  expect(hidden).toBe(6);
  expect(visible(crowd, 10).hidden).toBe(0);
});
