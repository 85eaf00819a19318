// How many pixels of the screen each tile has: nothing while it is scrolled out
// of sight, or while the page is in the background.

import type { Shown } from '../views';

interface Watched { element: Element; video: HTMLVideoElement; width: number; height: number; inside: boolean; pinned: boolean }

export class TileSizes {
  private readonly changed: (sizes: Map<string, Shown>) => void;
  private readonly tiles = new Map<string, Watched>();
  private readonly keys = new Map<Element, string>();
  private readonly resized = new ResizeObserver((entries) => this.measured(entries));
  private readonly moved = new IntersectionObserver((entries) => this.met(entries));
  private readonly turned = () => this.tell();

  constructor(changed: (sizes: Map<string, Shown>) => void) {
    this.changed = changed;
    document.addEventListener('visibilitychange', this.turned);
  }

  watch(key: string, element: Element, video: HTMLVideoElement, pinned: boolean): void {
    const known = this.tiles.get(key);
    if (known?.element === element) {
      if (known.pinned === pinned) return;
      known.pinned = pinned;
      this.tell();
      return;
    }
    if (known) this.forget(key);
    this.tiles.set(key, { element, video, width: 0, height: 0, inside: true, pinned });
    this.keys.set(element, key);
    try {
      this.resized.observe(element, { box: 'device-pixel-content-box' });
    } catch {
      this.resized.observe(element); // Safari knows CSS pixels only
    }
    this.moved.observe(element);
  }

  forget(key: string): void {
    const tile = this.tiles.get(key);
    if (!tile) return;
    this.tiles.delete(key);
    this.keys.delete(tile.element);
    this.resized.unobserve(tile.element);
    this.moved.unobserve(tile.element);
    this.tell();
  }

  close(): void {
    document.removeEventListener('visibilitychange', this.turned);
    this.resized.disconnect();
    this.moved.disconnect();
    this.tiles.clear();
    this.tell();
  }

  private measured(entries: ResizeObserverEntry[]): void {
    for (const { target, devicePixelContentBoxSize, contentRect } of entries) {
      const tile = this.tile(target);
      if (!tile) continue;
      const [exact] = devicePixelContentBoxSize ?? [];
      tile.width = exact?.inlineSize ?? contentRect.width * devicePixelRatio;
      tile.height = exact?.blockSize ?? contentRect.height * devicePixelRatio;
    }
    this.tell();
  }

  private met(entries: IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const tile = this.tile(target);
      if (tile) tile.inside = isIntersecting;
    }
    this.tell();
  }

  private tile(element: Element): Watched | undefined {
    return this.tiles.get(this.keys.get(element) ?? '');
  }

  private tell(): void {
    const sizes = new Map<string, Shown>();
    for (const [key, { video, width, height, inside, pinned }] of this.tiles) {
      const aside = document.pictureInPictureElement === video; // a window of its own
      const seen = aside || (inside && document.visibilityState === 'visible');
      sizes.set(key, { width: seen ? width : 0, height: seen ? height : 0, pinned });
    }
    this.changed(sizes);
  }
}
