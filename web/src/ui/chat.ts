// The chat: lines of everybody, and one to write.

import type { App } from '../app';
import { clock, raw, t } from '../i18n';
import type { ChatLine, State } from '../state';
import { limits } from '../wire';
import { h, setAttribute } from './dom';
import { icon } from './icons';
import { hue } from './parts';
import type { View } from './view';

const bytes = new TextEncoder();

export function chatView(app: App): View {
  const list = h('ol', { class: 'chat', role: 'log', live: 'polite' });
  const empty = h('div', { class: 'empty' }, icon('chat'),
    h('strong', {}, t('chat.empty.title')), h('p', {}, t('chat.empty.text')));
  const long = h('p', { class: 'help warn', role: 'alert', hidden: true }, t('chat.long'));
  const input = h('textarea', {
    class: 'input', rows: 1, placeholder: t('chat.placeholder'), label: t('chat.placeholder'),
    on: {
      input: () => app.store.dispatch({ type: 'draft', text: input.value }),
      keydown: (e) => {
        // Enter ends a conversion in a Japanese input method before it sends anything.
        if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
        e.preventDefault();
        send();
      },
    },
  });
  const button = h('button', { class: 'round primary', type: 'submit', label: t('chat.send'), title: t('chat.send'), data: { action: 'send' } }, icon('send'));
  const tooLong = () => bytes.encode(input.value.trim()).length > limits.chatBytes;
  const send = () => {
    if (!tooLong()) void app.sendChat(input.value);
  };
  const element = h('aside', { class: 'panel', label: t('chat.title') },
    h('header', {}, h('h2', {}, t('chat.title')),
      h('button', { class: 'plain', type: 'button', label: t('control.close'), on: { click: () => app.panel('chat') } }, icon('close'))),
    empty, list,
    h('footer', {}, long,
      h('form', { class: 'composer', on: { submit: (e) => { e.preventDefault(); send(); } } }, input, button)));
  let drawn: readonly ChatLine[] | null = null;

  return {
    element,
    update(s: State) {
      if (input.value !== s.draft) input.value = s.draft;
      input.style.setProperty('height', 'auto');
      input.style.setProperty('height', `${Math.min(input.scrollHeight + 2, 140)}px`);
      const over = tooLong();
      long.hidden = !over;
      button.disabled = over || s.draft.trim() === '';
      empty.hidden = s.chat.length > 0;
      list.hidden = s.chat.length === 0;
      if (drawn === s.chat) return;
      const atEnd = drawn === null || list.scrollHeight - list.scrollTop - list.clientHeight < 60;
      // Lines are only added; the log is announced line by line.
      const known = new Set([...list.children].map((child) => (child as HTMLElement).dataset['id']));
      const ids = new Set(s.chat.map((line) => line.id));
      for (const child of [...list.children]) if (!ids.has((child as HTMLElement).dataset['id'] ?? '')) child.remove();
      s.chat.forEach((line, i) => {
        if (!known.has(line.id)) list.append(bubble(line, s, s.chat[i - 1]));
      });
      drawn = s.chat;
      if (atEnd) requestAnimationFrame(() => list.scrollTo({ top: list.scrollHeight }));
    },
  };
}

const togetherMs = 3 * 60_000;

function bubble(line: ChatLine, s: State, before: ChatLine | undefined): HTMLElement {
  const own = line.from === s.me;
  const together = before !== undefined && before.from === line.from && line.at - before.at < togetherMs;
  const at = new Date(line.at);
  const who = h('span', { class: 'chat-name' }, own ? t('chat.you') : raw(line.name));
  who.style.setProperty('--hue', String(hue(line.name)));
  const time = h('time', {}, clock(at));
  setAttribute(time, 'datetime', at.toISOString());
  return h('li', { class: `line${own ? ' own' : ''}`, data: { id: line.id } },
    !together && h('div', { class: 'line-head' }, who, time),
    h('div', { class: 'bubble' }, raw(line.text)));
}
