// The bar of the meeting.

import type { App } from '../app';
import { raw, t } from '../i18n';
import type { Text } from '../i18n';
import { canShareScreen } from '../media';
import { seats } from '../state';
import type { OwnSource, State } from '../state';
import { h, setAttribute, setText } from './dom';
import { icon } from './icons';
import type { Icon } from './icons';
import { keys } from './keyboard';
import type { View } from './view';

interface Button {
  element: HTMLElement;
  /** pressed undefined: the button does something and keeps no state. */
  set(glyph: Icon, label: Text, options: { pressed?: boolean; look?: string; badge?: Text; busy?: boolean }): void;
}

function button(action: string, key: string, click: () => void): Button {
  const face = h('span', { class: 'control-face' });
  const name = h('span', { class: 'control-name' });
  const badge = h('span', { class: 'badge', hidden: true });
  const element = h('button', { class: 'control', type: 'button', data: { action }, on: { click } }, face, name, badge);
  if (key) element.setAttribute('aria-keyshortcuts', key);
  let drawn = '';
  return {
    element,
    set(glyph, label, { pressed, look = '', badge: count, busy = false }) {
      const state = [glyph, label, pressed, look, count, busy].join('|');
      if (state === drawn) return;
      drawn = state;
      face.replaceChildren(icon(glyph));
      setText(name, label);
      setAttribute(element, 'title', key ? t('control.withKey', { label, key: key.toUpperCase() }) : label);
      setAttribute(element, 'aria-label', label);
      if (pressed !== undefined) setAttribute(element, 'aria-pressed', String(pressed));
      element.className = `control ${look}${busy ? ' busy' : ''}`;
      badge.hidden = !count;
      setText(badge, count ?? raw(''));
    },
  };
}

export function controlsView(app: App): View {
  const own = (source: OwnSource) => () => app.toggle(source);
  const mic = button('microphone', keys.mic, own('microphone'));
  const camera = button('camera', keys.camera, own('camera'));
  const share = button('screen', keys.share, own('screen'));
  const chat = button('chat', keys.chat, () => app.panel('chat'));
  const people = button('people', keys.people, () => app.panel('people'));
  const copy = button('copy', keys.copy, () => void app.copyLink());
  // No key: to be recorded must not be a slip of a finger.
  const record = button('record', '', () => void app.record(!app.state.recording.active));
  const settings = button('settings', keys.settings, () => app.settings(true));
  const leave = h('button', { class: 'control leave', type: 'button', data: { action: 'leave' }, title: t('control.leave'), on: { click: () => app.leave() } },
    h('span', { class: 'control-face' }, icon('leave')), h('span', { class: 'control-name' }, t('control.leave')));
  share.element.hidden = !canShareScreen();

  const element = h('nav', { class: 'controls', label: t('control.bar') },
    h('div', { class: 'controls-side' }, copy.element, settings.element, record.element),
    h('div', { class: 'controls-main' }, mic.element, camera.element, share.element, leave),
    h('div', { class: 'controls-side end' }, people.element, chat.element));

  return {
    element,
    update(s: State) {
      const { microphone, camera: cam, screen } = s.own;
      mic.set(microphone.on ? 'mic' : 'micOff', t(microphone.on ? 'control.mic.mute' : 'control.mic.unmute'),
        { look: microphone.on ? '' : 'off', busy: microphone.busy });
      camera.set(cam.on ? 'camera' : 'cameraOff', t(cam.on ? 'control.camera.stop' : 'control.camera.start'),
        { look: cam.on ? '' : 'off', busy: cam.busy });
      share.set('screen', t(screen.on ? 'control.share.stop' : 'control.share.start'),
        { look: screen.on ? 'active' : '', busy: screen.busy });
      const unread: { badge?: Text } = s.unread > 0 ? { badge: raw(s.unread > 99 ? '99+' : String(s.unread)) } : {};
      chat.set('chat', t('control.chat'), { pressed: s.panel === 'chat', ...unread });
      people.set('people', t('control.people'), { pressed: s.panel === 'people', badge: raw(String(seats(s).length)) });
      setAttribute(chat.element, 'aria-label', s.unread > 0 ? t('control.chat.unread', { count: s.unread }) : t('control.chat'));
      setAttribute(people.element, 'aria-label', t('control.people.count', { count: seats(s).length }));
      copy.set('link', t('control.copy'), {});
      settings.set('settings', t('control.settings'), {});
      record.element.hidden = s.role !== 'host' || !s.canRecord;
      record.set('record', t(s.recording.active ? 'control.record.stop' : 'control.record.start'),
        { look: s.recording.active ? 'recording' : '', busy: s.recordingBusy });
    },
  };
}
