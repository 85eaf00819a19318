// One tile of the stage: a person or a shared screen. A picture is shown only
// once a frame of the bound track has come: the frame before it may be somebody
// else's, whom the slot showed until now.

import { raw, t } from '../i18n';
import type { Tile } from '../state';
import { h, setAttribute, setText } from './dom';
import { icon } from './icons';
import { avatar } from './parts';
import { showTrack } from './preview';

export class TileView {
  readonly element: HTMLElement;
  readonly video: HTMLVideoElement;
  private readonly name = h('span', { class: 'plate-name' });
  private readonly muted = h('span', { class: 'plate-muted', title: t('meeting.muted') }, icon('micOff'));
  private readonly quality = h('span', { class: 'plate-quality', role: 'img', hidden: true });
  private grade: Tile['quality'] = 'good';
  private readonly away = h('span', { class: 'tile-away' }, t('meeting.away'));
  private readonly pin: HTMLButtonElement;
  private readonly face = h('div', { class: 'tile-face' });
  private faceOf: string | null = null;
  private shown = ''; // what the frames on display belong to

  constructor(tile: Tile, pin: (key: string) => void) {
    this.video = h('video', {});
    this.video.muted = true; // sound has elements of its own
    this.video.autoplay = true;
    this.video.playsInline = true;
    // Where the whole picture is shown the tile may have room left beside it: what is written on it stands on the picture.
    this.video.addEventListener('resize', () => {
      const { videoWidth, videoHeight } = this.video;
      if (videoWidth && videoHeight) this.element.style.setProperty('--aspect', String(videoWidth / videoHeight));
    });
    this.pin = h('button', { class: 'tile-pin', type: 'button', hidden: tile.self, on: { click: () => pin(tile.key) } }, icon('pin'));
    this.element = h('article', { class: 'tile', data: { participant: tile.participant, kind: tile.kind } },
      h('div', { class: 'tile-frame' },
        this.face, this.video, this.away, this.pin,
        h('div', { class: 'plate' }, this.muted, this.name, this.quality)));
    this.element.classList.toggle('screen', tile.kind === 'screen');
    this.video.classList.toggle('mirror', tile.self);
  }

  update(tile: Tile, track: MediaStreamTrack | null): void {
    const { element, video } = this;
    const title = tile.kind === 'screen' ? t('meeting.screenOf', { name: tile.name })
      : tile.self ? t('meeting.you', { name: tile.name }) : raw(tile.name);
    setText(this.name, title);
    this.name.title = title;
    element.setAttribute('aria-label', title);
    this.muted.hidden = !tile.muted || tile.kind === 'screen';
    this.showQuality(tile.quality);
    element.classList.toggle('speaking', tile.speaking);
    element.classList.toggle('pinned', tile.pinned);
    const what = t(tile.pinned ? 'meeting.unpin' : 'meeting.pin', { name: title });
    setAttribute(this.pin, 'aria-label', what);
    setAttribute(this.pin, 'title', what);
    element.classList.toggle('away', !tile.connected);
    this.away.hidden = tile.connected;
    if (this.faceOf !== tile.name) {
      this.faceOf = tile.name;
      this.face.replaceChildren(tile.kind === 'screen' ? icon('screen') : avatar(tile.name));
    }

    const show = tile.video && track ? `${tile.video} ${track.id}` : '';
    if (show === this.shown) return;
    this.shown = show;
    element.classList.remove('live');
    showTrack(video, null);
    if (!show) return;
    showTrack(video, track);
    const live = () => this.shown === show && element.classList.add('live');
    if ('requestVideoFrameCallback' in video) video.requestVideoFrameCallback(live);
    else (video as HTMLVideoElement).addEventListener('playing', live, { once: true });
  }

  private showQuality(grade: Tile['quality']): void {
    if (grade === this.grade) return;
    this.grade = grade;
    this.quality.hidden = grade === 'good';
    this.quality.dataset['grade'] = grade;
    if (grade === 'good') return;
    const what = t(`meeting.quality.${grade}`);
    setAttribute(this.quality, 'aria-label', what);
    this.quality.title = what;
    this.quality.replaceChildren(icon(grade === 'fair' ? 'signalFair' : 'signalPoor'));
  }

  close(): void {
    showTrack(this.video, null);
    this.element.remove();
  }
}
