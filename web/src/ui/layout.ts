// How many columns make the tiles largest. Pure.

export interface Grid { columns: number; width: number; height: number }

const cameraAspect = 16 / 9;
const wideAspects = [cameraAspect, 4 / 3];
const tallAspects = [cameraAspect, 4 / 3, 1, 3 / 4];
const whole = 1.15; // how much smaller a tile may be to show the whole picture

/**
 * The grid of n tiles that fills an area best. Tiles may be squarer than the
 * picture, which is cropped then, if that makes them clearly larger; on an
 * upright screen they may be taller than wide.
 */
export function bestGrid(n: number, areaWidth: number, areaHeight: number, gap: number): Grid {
  let best: Grid = { columns: 1, width: 0, height: 0 };
  let score = 0;
  for (const aspect of areaWidth < areaHeight ? tallAspects : wideAspects) {
    for (let columns = 1; columns <= Math.max(n, 1); columns++) {
      const rows = Math.ceil(n / columns) || 1;
      const cellWidth = (areaWidth - gap * (columns - 1)) / columns;
      const cellHeight = (areaHeight - gap * (rows - 1)) / rows;
      const width = Math.floor(Math.min(cellWidth, cellHeight * aspect));
      const height = Math.floor(width / aspect);
      const value = width * height * (aspect === cameraAspect ? whole : 1);
      if (width > 0 && value > score) {
        score = value;
        best = { columns, width, height };
      }
    }
  }
  return best;
}

/**
 * The tiles that fit when there is room for some only: the first ones, and who
 * speaks in the place of the last. The rest is counted.
 */
export function visible<T extends { speaking: boolean }>(tiles: readonly T[], room: number): { shown: T[]; hidden: number } {
  if (tiles.length <= room) return { shown: [...tiles], hidden: 0 };
  const places = Math.max(room - 1, 1); // one is for the count
  const shown = tiles.slice(0, places);
  const speaker = tiles.slice(places).find((tile) => tile.speaking);
  if (speaker) shown[places - 1] = speaker;
  return { shown, hidden: tiles.length - places };
}
