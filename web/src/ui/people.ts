// The roster, with what a host may do to the others.

import type { App } from '../app';
import { countPeople, raw, t } from '../i18n';
import type { Text } from '../i18n';
import { seats } from '../state';
import type { State } from '../state';
import type { Participant } from '../wire';
import { h, setText } from './dom';
import { icon } from './icons';
import type { Icon } from './icons';
import { avatar } from './parts';
import type { View } from './view';

export function peopleView(app: App): View {
  const title = h('h2');
  const watch = h('button', { class: 'button wide', type: 'button', data: { action: 'watch-link' }, on: { click: () => void app.copyWatchLink() } },
    icon('broadcast'), h('span', {}, t('people.watch')));
  const list = h('ul', { class: 'people' });
  const element = h('aside', { class: 'panel', label: t('people.title') },
    h('header', {}, title,
      h('button', { class: 'plain', type: 'button', label: t('control.close'), on: { click: () => app.panel('people') } }, icon('close'))),
    list,
    h('footer', { class: 'stack tight' },
      h('button', { class: 'button wide', type: 'button', on: { click: () => void app.copyLink() } },
        icon('link'), h('span', {}, t('people.invite'))),
      watch));
  let drawn: unknown[] = [];
  let asked = '';

  return {
    element,
    update(s) {
      const now = [s.people, s.confirming, s.role, s.me, s.speaker, s.own.microphone.on];
      if (now.every((value, i) => value === drawn[i])) return;
      drawn = now;
      const focused = document.activeElement?.closest('[data-focus]')?.getAttribute('data-focus');
      setText(title, countPeople(seats(s).length));
      watch.hidden = s.role !== 'host';
      const rank = (p: Participant) => (p.id === s.me ? 0 : p.broadcast ? 2 : 1);
      const ordered = [...s.people].sort((a, b) => rank(a) - rank(b));
      list.replaceChildren(...ordered.map((p) => row(app, s, p)));
      if (s.confirming && s.confirming !== asked) list.querySelector<HTMLElement>('[data-focus="no"]')?.focus();
      asked = s.confirming;
      if (list.contains(document.activeElement)) return;
      // The rows are new; whoever walked them by keyboard stays where they were.
      if (focused) list.querySelector<HTMLElement>(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    },
  };
}

function row(app: App, s: State, p: Participant): HTMLElement {
  if (p.broadcast) return viewers(app, s, p);
  const self = p.id === s.me;
  const microphone = p.tracks.find((track) => track.source === 'microphone');
  const muted = self ? !s.own.microphone.on : (microphone?.muted ?? true);
  const notes = [
    p.role === 'host' && t('meeting.host'),
    !p.connected && !self && t('meeting.away'),
    p.tracks.some((track) => track.source === 'screen') && t('people.sharing'),
  ].filter((note) => note !== false);
  const mayAct = s.role === 'host' && !self;
  const action = (glyph: Icon, label: ReturnType<typeof t>, name: string, run: () => void) =>
    h('button', { class: 'plain', type: 'button', label, title: label, data: { action: name, focus: `${name} ${p.id}` }, on: { click: run } }, icon(glyph));

  const line = h('div', { class: 'person' },
    avatar(p.name),
    h('div', { class: 'person-words' },
      h('span', { class: 'person-name' }, self ? t('meeting.you', { name: p.name }) : raw(p.name)),
      notes.length > 0 && h('span', { class: 'person-notes' }, raw(notes.join(' · ')))),
    mayAct && !muted
      ? action('mic', t('people.mute', { name: p.name }), 'mute', () => void app.muteOther(p.id))
      : status(muted),
    mayAct && action('remove', t('people.remove', { name: p.name }), 'remove', () => app.confirm(p.id)));
  line.classList.toggle('speaking', s.speaker === p.id && !muted);

  return h('li', { data: { participant: p.id } }, line, question(app, s, p, t('people.remove', { name: p.name }), t('people.remove.ask', { name: p.name }), t('people.remove.yes')));
}

// Those who watch without a seat, all in one.
function viewers(app: App, s: State, p: Participant): HTMLElement {
  const mark = h('span', { class: 'avatar broadcast' }, icon('broadcast'));
  mark.setAttribute('aria-hidden', 'true');
  const end = t('people.broadcast.end');
  return h('li', { data: { participant: p.id } },
    h('div', { class: 'person' }, mark,
      h('div', { class: 'person-words' },
        h('span', { class: 'person-name' }, t('people.broadcast')), h('span', { class: 'person-notes' }, t('people.broadcast.note'))),
      s.role === 'host' && h('button', { class: 'plain', type: 'button', label: end, title: end, data: { action: 'remove', focus: `remove ${p.id}` }, on: { click: () => app.confirm(p.id) } }, icon('close'))),
    question(app, s, p, end, t('people.broadcast.ask'), end));
}

// Asks a host whether a seat shall be ended.
function question(app: App, s: State, p: Participant, label: Text, ask: Text, yes: Text): HTMLElement | false {
  return s.confirming === p.id && h('div', { class: 'confirm', role: 'alertdialog', label },
    h('p', {}, ask),
    h('div', { class: 'row end' },
      h('button', { class: 'button small', type: 'button', data: { focus: 'no' }, on: { click: () => app.confirm('') } }, t('people.remove.no')),
      h('button', { class: 'button danger small', type: 'button', data: { action: 'confirm', focus: 'yes' }, on: { click: () => void app.remove(p.id) } }, yes)));
}

function status(muted: boolean): HTMLElement {
  return h('span', { class: `person-mic${muted ? ' off' : ''}`, ...(muted ? { title: t('meeting.muted') } : {}) }, icon(muted ? 'micOff' : 'mic'));
}
