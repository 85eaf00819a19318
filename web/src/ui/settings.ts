// The settings: devices, language, and which keys there are.

import type { App } from '../app';
import { raw, t } from '../i18n';
import { canChooseSpeaker } from '../media';
import { h } from './dom';
import { icon } from './icons';
import { keys } from './keyboard';
import { deviceChoice, languageChoice } from './parts';
import type { View } from './view';

export function settingsView(app: App): View {
  const devices = [deviceChoice(app, 'microphone', 'mic'), deviceChoice(app, 'camera', 'camera')];
  if (canChooseSpeaker()) devices.push(deviceChoice(app, 'speaker', 'sound'));
  const names = Object.keys(keys) as (keyof typeof keys)[];
  const element = h('dialog', { class: 'dialog', label: t('settings.title'), on: { close: () => app.settings(false) } },
    h('form', { class: 'stack', on: { submit: (e) => { e.preventDefault(); element.close(); } } },
      h('header', {}, h('h2', {}, t('settings.title')),
        h('button', { class: 'plain', type: 'button', label: t('control.close'), on: { click: () => element.close() } }, icon('close'))),
      h('section', { class: 'stack' }, h('h3', {}, t('settings.devices')), ...devices.map((d) => d.element)),
      h('section', { class: 'field' }, h('label', {}, t('app.language')), languageChoice(app)),
      h('section', { class: 'stack tight keys' }, h('h3', {}, t('settings.keys')),
        h('dl', {}, ...names.flatMap((name) => [
          h('dt', {}, h('kbd', {}, raw(keys[name].toUpperCase()))), h('dd', {}, t(`key.${name}`)),
        ]), h('dt', {}, h('kbd', {}, raw('Esc'))), h('dd', {}, t('key.escape')))),
      h('footer', { class: 'row end' }, h('button', { class: 'button primary', type: 'submit' }, t('settings.done')))));
  return {
    element,
    update(s) {
      if (s.settings && !element.open) element.showModal();
      if (!s.settings && element.open) element.close();
      for (const d of devices) d.update(s);
    },
  };
}
