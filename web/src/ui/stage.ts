// The stage: all tiles, as large as the room allows. A shared screen gets most
// of it, the people a strip beside or below.

import type { App } from '../app';
import { t } from '../i18n';
import { tiles } from '../state';
import type { State, Tile } from '../state';
import { h, setChildren, setText } from './dom';
import { icon } from './icons';
import { bestGrid, visible } from './layout';
import { TileView } from './tile';
import type { View } from './view';

const gap = 12;
const smallestTile = 150; // wide; below that faces are not worth their place
const stripTile = 208;

export function stageView(app: App): View {
  const big = h('div', { class: 'stage-big' });
  const grid = h('div', { class: 'stage-grid' });
  const more = h('div', { class: 'tile more' });
  const invite = h('div', { class: 'invite' },
    h('h2', {}, t('meeting.alone.title')),
    h('p', {}, t('meeting.alone.text')),
    h('button', { class: 'button primary', type: 'button', data: { action: 'invite' }, on: { click: () => void app.copyLink() } },
      icon('link'), h('span', {}, t('control.copy'))));
  const element = h('section', { class: 'stage', label: t('meeting.stage') }, big, grid);
  const views = new Map<string, TileView>();
  let last: State | null = null;

  const viewOf = (tile: Tile): TileView => {
    const view = views.get(tile.key) ?? new TileView(tile);
    views.set(tile.key, view);
    view.update(tile, tile.self ? app.media.track('camera') : tile.mid ? (app.room.peer?.receiver(tile.mid) ?? null) : null);
    return view;
  };

  const draw = (s: State) => {
    const width = element.clientWidth;
    const height = element.clientHeight;
    if (width === 0 || height === 0) return;
    const all = tiles(s);
    const screen = all.find((tile) => tile.kind === 'screen');
    const rest = all.filter((tile) => tile !== screen);
    const wide = width >= 760 && width > height;
    element.classList.toggle('sharing', screen !== undefined);
    element.classList.toggle('wide', wide);

    // The strip beside a shared screen is one line of tiles of one size.
    let room: number;
    if (screen) {
      const tile = wide ? stripTile : Math.min(stripTile, (width - gap) / 2);
      room = Math.max(1, Math.floor(wide ? (height + gap) / ((tile * 9) / 16 + gap) : (width + gap) / (tile + gap)));
      grid.style.setProperty('--tile-width', `${Math.floor(tile)}px`);
    } else {
      const columns = Math.max(1, Math.floor((width + gap) / (smallestTile + gap)));
      const rows = Math.max(1, Math.floor((height + gap) / ((smallestTile * 9) / 16 + gap)));
      room = Math.min(columns * rows, 49);
    }
    const { shown, hidden } = visible(rest, room);
    const alone = s.people.length <= 1 && !screen;
    const count = shown.length + (hidden > 0 ? 1 : 0) + (alone ? 1 : 0);
    if (!screen) {
      // Portrait screens stack better with squarer tiles.
      const aspect = width < 560 && count > 1 ? 4 / 3 : 16 / 9;
      const best = bestGrid(count, width, height, gap, aspect);
      grid.style.setProperty('--tile-width', `${best.width}px`);
      grid.style.setProperty('--tile-height', `${best.height}px`);
      grid.style.setProperty('--columns', String(best.columns));
    } else {
      grid.style.removeProperty('--tile-height');
    }
    grid.classList.toggle('small', count > 9);

    const used = new Set([...shown, ...(screen ? [screen] : [])].map((tile) => tile.key));
    for (const [key, view] of views) {
      if (used.has(key)) continue;
      view.close();
      views.delete(key);
    }
    const children: HTMLElement[] = shown.map((tile) => viewOf(tile).element);
    if (alone) children.push(invite);
    if (hidden > 0) {
      setText(more, t('meeting.more', { count: hidden }));
      children.push(more);
    }
    setChildren(big, screen ? [viewOf(screen).element] : []);
    setChildren(grid, children);
  };

  const resized = new ResizeObserver(() => last && draw(last));
  resized.observe(element);
  return {
    element,
    update(s) {
      last = s;
      draw(s);
    },
    close() {
      resized.disconnect();
      for (const view of views.values()) view.close();
    },
  };
}
