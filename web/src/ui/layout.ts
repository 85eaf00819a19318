// How many columns make the tiles largest. Pure.

export interface Grid { columns: number; width: number; height: number }

/** The grid of n tiles with the given aspect that fills an area best. */
export function bestGrid(n: number, areaWidth: number, areaHeight: number, gap: number, aspect = 16 / 9): Grid {
  let best: Grid = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= Math.max(n, 1); columns++) {
    const rows = Math.ceil(n / columns) || 1;
    const cellWidth = (areaWidth - gap * (columns - 1)) / columns;
    const cellHeight = (areaHeight - gap * (rows - 1)) / rows;
    const width = Math.floor(Math.min(cellWidth, cellHeight * aspect));
    if (width > best.width) best = { columns, width, height: Math.floor(width / aspect) };
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
