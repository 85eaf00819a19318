// The stage: all tiles, as large as the room allows. A shared screen gets most
// of it, the people a strip beside or below.

import type { App } from '../app';
import { raw, t } from '../i18n';
import { linkOf } from '../route';
import { tiles } from '../state';
import type { State, Tile } from '../state';
import { h, setChildren, setText } from './dom';
import { icon } from './icons';
import { bestGrid, visible } from './layout';
import { TileView } from './tile';
import type { View } from './view';

const gap = 12;
const smallestTile = 150; // wide; below that faces are not worth their place
const stripWidth = 208;
const mostTiles = 49;

export function stageView(app: App): View {
  const big = h('div', { class: 'stage-big' });
  const grid = h('div', { class: 'stage-grid' });
  const more = h('div', { class: 'tile more' });
  const invite = h('div', { class: 'invite' },
    h('h2', {}, t('meeting.alone.title')),
    h('p', {}, t('meeting.alone.text')),
    h('p', { class: 'code' }, raw(linkOf(app.state.room))),
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
    const beside = screen !== undefined && width >= 760 && width > height;
    element.classList.toggle('sharing', screen !== undefined);
    element.classList.toggle('beside', beside);
    const alone = s.people.length <= 1 && !screen;

    // Where the people go: everywhere, or what the shared screen leaves.
    const bigHeight = screen && !beside ? Math.floor(Math.min((width * 9) / 16, height * 0.62)) : 0;
    const areaWidth = beside ? stripWidth : width;
    const areaHeight = bigHeight > 0 ? height - bigHeight - gap : height;
    big.style.setProperty('--big', bigHeight > 0 ? `${bigHeight}px` : 'auto');
    const smallest = beside ? stripWidth : smallestTile;
    const columns = Math.max(1, Math.floor((areaWidth + gap) / (smallest + gap)));
    const rows = Math.max(1, Math.floor((areaHeight + gap) / ((smallest * 9) / 16 + gap)));
    const { shown, hidden } = visible(rest, Math.min(columns * rows, mostTiles));
    const count = shown.length + (hidden > 0 ? 1 : 0) + (alone ? 1 : 0);
    const best = beside ? { width: stripWidth, height: Math.floor((stripWidth * 9) / 16) } : bestGrid(count, areaWidth, areaHeight, gap);
    grid.style.setProperty('--tile-width', `${best.width}px`);
    grid.style.setProperty('--tile-height', `${best.height}px`);
    grid.classList.toggle('small', best.width < 220);

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
