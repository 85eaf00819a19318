// The meeting: stage, panel, bar, and what is wrong at the moment.

import type { App } from '../app';
import { errorText, raw, t } from '../i18n';
import type { Text } from '../i18n';
import type { State } from '../state';
import { chatView } from './chat';
import { controlsView } from './controls';
import { h, setText } from './dom';
import { icon, logo } from './icons';
import { peopleView } from './people';
import { stageView } from './stage';
import type { View } from './view';

export function meetingView(app: App): View {
  const stage = stageView(app);
  const controls = controlsView(app);
  const bannerText = h('span');
  const banner = h('div', { class: 'banner', role: 'status', live: 'polite', hidden: true }, h('i', { class: 'spinner' }), bannerText);
  // The region is there from the beginning, or what appears in it would not be read out.
  const recordingMark = h('span', { class: 'recording-mark', hidden: true }, h('i', { class: 'recording-dot' }), h('span', {}, t('meeting.recording')));
  recordingMark.setAttribute('aria-hidden', 'true');
  const recordingSaid = h('span', { class: 'recording-said' });
  const broadcastMark = h('span', { class: 'recording-mark broadcast', hidden: true }, icon('broadcast'), h('span', {}, t('people.broadcast')));
  broadcastMark.setAttribute('aria-hidden', 'true');
  const recording = h('div', { class: 'recording', role: 'status', live: 'polite' },
    h('div', { class: 'marks' }, recordingMark, broadcastMark), recordingSaid);
  const sharing = h('div', { class: 'strip', hidden: true }, icon('screen'), h('span', {}, t('meeting.sharing')),
    h('button', { class: 'button small', type: 'button', on: { click: () => void app.set('screen', false) } }, t('control.share.stop')));
  const sound = h('div', { class: 'strip', hidden: true }, icon('sound'), h('span', {}, t('meeting.sound.blocked')),
    h('button', { class: 'button small primary', type: 'button', data: { action: 'sound' }, on: { click: () => app.soundOn() } }, t('meeting.sound.on')));
  const side = h('div', { class: 'side' });
  const element = h('div', { class: 'meeting' },
    h('main', { class: 'meeting-main' },
      recording,
      h('div', { class: 'strips' }, banner, sharing, sound),
      stage.element),
    side, controls.element);
  element.prepend(h('div', { class: 'watermark' }, logo()));
  let panel: { kind: State['panel']; view: View } | null = null;

  const showPanel = (s: State) => {
    if ((panel?.kind ?? '') === s.panel) return;
    panel?.view.close?.();
    panel = s.panel === '' ? null : { kind: s.panel, view: s.panel === 'chat' ? chatView(app) : peopleView(app) };
    side.replaceChildren(...(panel ? [panel.view.element] : []));
    element.classList.toggle('with-panel', panel !== null);
    if (s.panel === 'chat') side.querySelector('textarea')?.focus();
  };

  return {
    element,
    update(s) {
      const trouble = troubleOf(s);
      banner.hidden = trouble === null;
      if (trouble) setText(bannerText, trouble);
      banner.classList.toggle('calm', s.link === 'open' && s.media === 'connecting');
      element.classList.toggle('troubled', s.link === 'rejoining' || s.link === 'closing' || s.media === 'interrupted');
      recordingMark.hidden = !s.recording.active;
      const broadcast = s.people.some((p) => p.broadcast);
      broadcastMark.hidden = !broadcast;
      const said = [s.recording.active && t('meeting.recording.said'), broadcast && t('meeting.broadcast.said')];
      setText(recordingSaid, raw(said.filter((x) => x !== false).join('. ')));
      sharing.hidden = !s.own.screen.on || s.own.screen.busy;
      sound.hidden = !s.soundBlocked;
      showPanel(s);
      panel?.view.update(s);
      controls.update(s);
      stage.update(s);
    },
    close() {
      stage.close?.();
      panel?.view.close?.();
    },
  };
}

function troubleOf(s: State): Text | null {
  switch (s.link) {
    case 'joining': return t('link.joining');
    case 'resuming': return t('link.resuming');
    case 'rejoining': return t('link.rejoining');
    case 'closing': return t('link.closing');
    case 'open': break;
  }
  switch (s.media) {
    case 'connecting': return t('link.connecting');
    case 'interrupted': return t('link.media');
    case 'blocked': return errorText('media').hint;
    case 'connected': return null;
  }
}
