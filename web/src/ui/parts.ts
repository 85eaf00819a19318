// Small parts that several screens use.

import type { App } from '../app';
import { errorText, language, languages, raw, t } from '../i18n';
import type { Language, Text } from '../i18n';
import type { Devices } from '../media';
import { preference } from '../settings';
import type { State } from '../state';
import { h, setText } from './dom';
import { icon, logo } from './icons';
import type { Icon } from './icons';

/** What the head of a page does. */
type Head = Pick<App, 'goHome' | 'setLanguage'>;

/** The head of the pages outside a meeting. */
export function pageHead(app: Head): HTMLElement {
  return h('header', { class: 'head' },
    h('a', { class: 'brand', href: '/', label: t('app.name'), on: { click: (e) => { e.preventDefault(); app.goHome(); } } },
      logo(), h('span', { class: 'brand-name' }, t('app.name'))),
    languageChoice(app));
}

export function languageChoice(app: Head): HTMLElement {
  const choice = h('select', {
    class: 'select quiet', label: t('app.language'), data: { action: 'language' },
    on: { change: () => app.setLanguage(choice.value as Language) },
  }, ...(Object.keys(languages) as Language[]).map((l) => h('option', { value: l }, raw(languages[l]))));
  choice.value = language();
  return h('span', { class: 'select-box' }, icon('globe'), choice);
}

export function initials(name: string): Text {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const first = [...(words[0] ?? '')][0] ?? '';
  const last = words.length > 1 ? ([...(words[words.length - 1] ?? '')][0] ?? '') : '';
  // Two letters of an alphabet are initials; one Chinese character already says more than two would.
  const alphabet = /\p{Script=Latin}|\p{Script=Cyrillic}|\p{Script=Greek}/u;
  return raw((alphabet.test(first) && alphabet.test(last) ? first + last : first).toUpperCase());
}

/** A hue that stays with a name. */
export function hue(name: string): number {
  let sum = 0x811c9dc5;
  for (const c of name) sum = Math.imul(sum ^ (c.codePointAt(0) ?? 0), 0x01000193);
  sum ^= sum >>> 15; // alike names differ in the low bits only
  return ((sum >>> 0) % 12) * 30;
}

export function avatar(name: string): HTMLElement {
  const element = h('span', { class: 'avatar' }, initials(name));
  element.setAttribute('aria-hidden', 'true');
  element.style.setProperty('--hue', String(hue(name)));
  return element;
}

/** An error with its hint, or nothing. */
export function problemBox(): { element: HTMLElement; show(code: string): void; say(message: Text | null, hint?: Text): void } {
  const message = h('strong');
  const hint = h('span');
  const element = h('div', { class: 'problem', role: 'alert', hidden: true }, icon('warning'), h('div', {}, message, hint));
  const say = (text: Text | null, more?: Text) => {
    element.hidden = text === null;
    setText(message, text ?? raw(''));
    setText(hint, more ?? raw(''));
    hint.hidden = !more;
  };
  return {
    element,
    say,
    show(code) {
      if (!code) return say(null);
      const text = errorText(code);
      say(text.message, text.hint);
    },
  };
}

/** A choice among the devices of one kind. */
export function deviceChoice(app: App, kind: keyof Devices, glyph: Icon): { element: HTMLElement; update(s: State): void } {
  const id = `device-${kind}`;
  const name = t(`device.${kind}`);
  const choice = h('select', { class: 'select', id, data: { device: kind }, on: { change: () => void app.chooseDevice(kind, choice.value) } });
  const element = h('div', { class: 'field' },
    h('label', { for: id }, name),
    h('span', { class: 'select-box' }, icon(glyph), choice));
  let shown: unknown = null;
  return {
    element,
    update(s) {
      if (shown === s.devices) return;
      shown = s.devices;
      const list = s.devices[kind];
      // What is open counts, then what was wished.
      const open = kind === 'speaker' ? '' : (app.media.track(kind)?.getSettings().deviceId ?? '');
      const wish = open || preference(kind);
      const options = list.map((d, i) =>
        h('option', { value: d.id }, d.label ? raw(d.label) : t('device.unnamed', { kind: name, number: i + 1 })));
      if (list.length === 0) options.push(h('option', { value: '' }, t('device.none')));
      else if (!open && !list.some((d) => d.id === 'default')) options.unshift(h('option', { value: '' }, t('device.default')));
      choice.replaceChildren(...options);
      choice.disabled = list.length === 0;
      choice.value = list.some((d) => d.id === wish) ? wish : (options[0]?.value ?? '');
    },
  };
}
