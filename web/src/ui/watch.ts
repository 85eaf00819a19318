// The page that plays a broadcast: a stage with its few buttons, or why there
// is none. Follows the state of watching.ts.

import { errorText, language, raw, t } from '../i18n';
import type { Text } from '../i18n';
import { isLive } from '../watching';
import type { Watching, WatchState } from '../watching';
import { h, setAttribute, setText } from './dom';
import { icon, logo } from './icons';
import type { Icon } from './icons';
import { pageHead } from './parts';

interface View {
  readonly element: HTMLElement;
  update(s: WatchState): void;
}

export const watchKeys = { sound: 'm', expand: 'f' } as const;

const idleMs = 3000; // until the buttons leave the picture alone

export function mountWatch(app: Watching, body: HTMLElement): void {
  let drawn = '';
  let view: View | null = null;
  const update = (s: WatchState) => {
    const over = s.phase === 'ended' || s.phase === 'failed';
    const now = `${over ? s.phase + s.problem : ''} ${s.language}`;
    if (now !== drawn) {
      drawn = now;
      view?.element.remove();
      document.documentElement.lang = language();
      document.title = `${t('watch.title')} · ${t('app.name')}`;
      view = over ? overView(app, s) : stageView(app);
      body.prepend(view.element);
    }
    view?.update(s);
  };
  app.store.subscribe(update);
  update(app.state);
}

/** Fills the screen with the stage, or no more. */
export function toggleFull(): void {
  const stage = document.querySelector('.watch-stage');
  if (document.fullscreenElement) void document.exitFullscreen();
  else void stage?.requestFullscreen().catch(() => undefined);
}

function stageView(app: Watching): View {
  const mark = h('span', { class: 'watch-mark', hidden: true }, h('i', { class: 'recording-dot' }), h('span', {}, t('watch.live')));
  const title = h('h2');
  const text = h('p');
  const face = h('div', { class: 'watch-face' }, logo(), title, text);
  const bannerText = h('span');
  const banner = h('div', { class: 'banner watch-banner', hidden: true }, h('i', { class: 'spinner' }), bannerText);
  const sound = button('sound', watchKeys.sound, () => app.toggleSound());
  const full = button('expand', watchKeys.expand, toggleFull);
  full.element.hidden = !document.fullscreenEnabled;
  const blocked = h('button', { class: 'button large primary watch-sound', type: 'button', hidden: true, data: { action: 'sound-on' }, on: { click: () => app.soundOn() } },
    icon('sound'), h('span', {}, t('meeting.sound.on')));
  const buttons = h('div', { class: 'watch-buttons', hidden: true }, sound.element, full.element);
  // The region is there from the beginning, or what appears in it would not be read out.
  const said = h('span', { class: 'recording-said', role: 'status', live: 'polite' });
  const stage = h('div', { class: 'watch-stage' }, app.video, face, banner, mark, blocked,
    buttons, said);
  const element = h('div', { class: 'page watch' },
    pageHead(app),
    h('main', { class: 'watch-body' }, stage,
      h('div', { class: 'watch-words' }, h('h1', {}, t('watch.title')), h('p', { class: 'code' }, t('pre.room', { room: app.state.room })))));

  let timer: ReturnType<typeof setTimeout> | undefined;
  let seen = false; // there has been something
  let pictured = false; // until the trouble
  const awake = () => {
    stage.classList.remove('idle');
    clearTimeout(timer);
    timer = setTimeout(() => stage.classList.add('idle'), idleMs);
  };
  for (const type of ['pointermove', 'pointerdown', 'focusin'] as const) stage.addEventListener(type, awake);
  awake();
  stage.addEventListener('pointerleave', () => stage.classList.add('idle'));
  stage.addEventListener('dblclick', (e) => (e.target as Element).closest('button') ?? toggleFull());
  stage.addEventListener('fullscreenchange', () => app.store.dispatch({}));

  return {
    element,
    update(s) {
      const live = isLive(s);
      seen ||= live;
      const trouble = troubleOf(s);
      const words: [Text, Text] = s.phase === 'connecting' ? [t('watch.connecting'), raw('')]
        : live ? [t('watch.voice'), raw('')]
        : seen ? [t('watch.pause.title'), t('watch.pause.text')] : [t('watch.quiet.title'), t('watch.quiet.text')];
      // While the connection is mended the last picture stays, dimmed, under what is said about it.
      if (trouble === null) pictured = s.picture;
      const keeps = trouble !== null && pictured;
      mark.hidden = !live;
      face.hidden = s.picture || keeps;
      face.classList.toggle('voice', live && !s.picture);
      setText(title, trouble === null ? words[0] : raw(''));
      setText(text, trouble === null ? words[1] : raw(''));
      banner.hidden = trouble === null;
      setText(bannerText, trouble ?? raw(''));
      banner.classList.toggle('resting', s.phase === 'resting');
      stage.classList.toggle('shows', s.picture);
      stage.classList.toggle('troubled', keeps);
      blocked.hidden = !s.blocked || !live;
      buttons.hidden = !live && !keeps;
      sound.element.hidden = !blocked.hidden; // one of them is enough
      sound.set(s.muted ? 'soundOff' : 'sound', t(s.muted ? 'watch.sound.unmute' : 'watch.sound.mute'));
      const filled = document.fullscreenElement === stage;
      full.set(filled ? 'shrink' : 'expand', t(filled ? 'watch.shrink' : 'watch.expand'));
      // Not the seconds of a rest: nobody wants to hear them counted.
      setText(said, s.phase === 'resting' ? reasonOf(s) : trouble ?? (live ? t('watch.live') : words[0]));
    },
  };
}

function button(action: string, key: string, click: () => void): { element: HTMLElement; set(glyph: Icon, label: Text): void } {
  const element = h('button', { class: 'round', type: 'button', data: { action }, on: { click } });
  element.setAttribute('aria-keyshortcuts', key);
  let drawn = '';
  return {
    element,
    set(glyph, label) {
      if (drawn === glyph + label) return;
      drawn = glyph + label;
      element.replaceChildren(icon(glyph));
      setAttribute(element, 'aria-label', label);
      setAttribute(element, 'title', t('control.withKey', { label, key: key.toUpperCase() }));
    },
  };
}

function reasonOf(s: WatchState): Text {
  return s.problem === 'room_full' ? t('watch.full') : errorText(s.problem).message;
}

function troubleOf(s: WatchState): Text | null {
  switch (s.phase) {
    case 'restarting': return t(s.problem === 'network' ? 'watch.unreachable' : 'watch.restarting');
    case 'renewing': return t('watch.renewing');
    case 'resting': return t('watch.resting', { problem: reasonOf(s), seconds: s.seconds });
    default: return null;
  }
}

function overView(app: Watching, s: WatchState): View {
  const ended = s.phase === 'ended';
  const error = errorText(s.problem);
  const denied = s.problem === 'unauthorized' || s.problem === 'token_expired' || s.problem === 'forbidden';
  const text = ended ? [t('watch.ended.text')] : [error.message, h('br'), denied ? t('watch.denied.text') : error.hint];
  return {
    element: h('div', { class: 'page over' },
      pageHead(app),
      h('main', { class: 'over-body' },
        h('div', { class: `over-mark ${s.phase}` }, icon(ended ? 'check' : 'warning')),
        h('h1', {}, t(ended ? 'watch.ended.title' : 'watch.failed.title')),
        h('p', { role: 'status' }, ...text),
        h('div', { class: 'row center' },
          !ended && h('button', { class: 'button primary', type: 'button', data: { action: 'again' }, on: { click: () => void app.start() } }, t('over.retry')),
          h('button', { class: 'button', type: 'button', data: { action: 'home' }, on: { click: () => app.goHome() } }, t('over.home'))))),
    update: () => undefined,
  };
}
