// The page after a meeting, whichever way it ended.

import type { App } from '../app';
import { errorText, t } from '../i18n';
import type { Key } from '../i18n';
import type { State } from '../state';
import { h } from './dom';
import { icon } from './icons';
import type { Icon } from './icons';
import { pageHead } from './parts';
import type { View } from './view';

const looks: Record<State['over'], { glyph: Icon; again: Key | '' }> = {
  left: { glyph: 'leave', again: 'over.rejoin' },
  removed: { glyph: 'remove', again: '' },
  ended: { glyph: 'check', again: '' },
  replaced: { glyph: 'screen', again: 'over.rejoin' },
  failed: { glyph: 'warning', again: 'over.retry' },
};

export function overView(app: App): View {
  const { over, problem, room } = app.state;
  const { glyph, again } = looks[over];
  const text = over === 'failed' ? errorText(problem) : null;
  const element = h('div', { class: 'page over' },
    pageHead(app),
    h('main', { class: 'over-body' },
      h('div', { class: `over-mark ${over}` }, icon(glyph)),
      h('h1', {}, t(`over.${over}.title` as Key)),
      text ? h('p', {}, text.message, h('br'), text.hint) : h('p', {}, t(`over.${over}.text` as Key)),
      h('div', { class: 'row center' },
        again !== '' && h('button', { class: 'button primary', type: 'button', data: { action: 'again' }, on: { click: () => void app.preview(room) } }, t(again)),
        h('button', { class: 'button', type: 'button', data: { action: 'home' }, on: { click: () => app.goHome() } }, t('over.home')))));
  return { element, update: () => undefined };
}
