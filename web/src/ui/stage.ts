// The stage: all tiles, as large as the room allows. A shared screen, or the
// tile that was pinned, gets most of it, the others a strip beside or below.

import type { App } from '../app';
import { raw, t } from '../i18n';
import { linkOf } from '../route';
import { largeTile, seats, tiles } from '../state';
import type { State, Tile } from '../state';
import { h, setChildren, setText } from './dom';
import { icon } from './icons';
import { bestGrid, visible } from './layout';
import { TileSizes } from './sizes';
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
  const sizes = new TileSizes((shown) => app.room.showing(shown));
  let last: State | null = null;

  const viewOf = (tile: Tile): TileView => {
    const view = views.get(tile.key) ?? new TileView(tile, (key) => app.pin(key));
    views.set(tile.key, view);
    if (!tile.self) sizes.watch(tile.key, view.element, view.video, tile.pinned);
    view.update(tile, tile.self ? app.media.track('camera') : tile.mid ? (app.room.peer?.receiver(tile.mid) ?? null) : null);
    return view;
  };

  const draw = (s: State) => {
    const width = element.clientWidth;
    const height = element.clientHeight;
    if (width === 0 || height === 0) return;
    const all = tiles(s);
    const large = largeTile(all);
    const rest = all.filter((tile) => tile !== large);
    const beside = large !== undefined && width >= 760 && width > height;
    element.classList.toggle('sharing', large !== undefined);
    element.classList.toggle('beside', beside);
    const alone = seats(s).length <= 1 && !large;

    // Where the people go: everywhere, or what the large tile leaves.
    const bigHeight = large && !beside ? Math.floor(Math.min((width * 9) / 16, height * 0.62)) : 0;
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

    const used = new Set([...shown, ...(large ? [large] : [])].map((tile) => tile.key));
    for (const [key, view] of views) {
      if (used.has(key)) continue;
      sizes.forget(key);
      view.close();
      views.delete(key);
    }
    const children: HTMLElement[] = shown.map((tile) => viewOf(tile).element);
    if (alone) children.push(invite);
    if (hidden > 0) {
      setText(more, t('meeting.more', { count: hidden }));
      children.push(more);
    }
    setChildren(big, large ? [viewOf(large).element] : []);
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
      sizes.close();
      for (const view of views.values()) view.close();
    },
  };
}
