// The page before the meeting: how one looks and sounds, under which name.

import type { App } from '../app';
import { t } from '../i18n';
import type { Key } from '../i18n';
import { canChooseSpeaker, meter } from '../media';
import type { OwnSource, State } from '../state';
import { h, setAttribute, setText } from './dom';
import { icon } from './icons';
import { avatar, deviceChoice, pageHead, problemBox } from './parts';
import type { View } from './view';

export function previewView(app: App): View {
  const video = h('video', { class: 'mirror' });
  video.muted = true;
  video.autoplay = true;
  video.playsInline = true;
  const face = h('div', { class: 'preview-face' });
  const says = h('p', { class: 'preview-says' });
  const mic = toggle(app, 'microphone');
  const camera = toggle(app, 'camera');
  const bar = h('i');
  const level = h('div', { class: 'level', title: t('pre.level') }, icon('mic'), h('span', {}, bar));
  const devices = [deviceChoice(app, 'microphone', 'mic'), deviceChoice(app, 'camera', 'camera')];
  if (canChooseSpeaker()) devices.push(deviceChoice(app, 'speaker', 'sound'));
  const deviceProblem = problemBox();
  const problem = problemBox();
  const name = h('input', {
    class: 'input', id: 'name', name: 'name', autocomplete: 'name', maxLength: 64,
    placeholder: t('start.name.placeholder'), value: app.state.name, on: { input: () => app.setName(name.value) },
  });
  const join = h('button', { class: 'button primary large', type: 'submit', data: { action: 'join' } });

  const element = h('div', { class: 'page preview' },
    pageHead(app),
    h('main', { class: 'preview-body' },
      h('section', { class: 'preview-left' },
        h('div', { class: 'preview-stage' }, video, face, says, level,
          h('div', { class: 'preview-buttons' }, mic.element, camera.element)),
        deviceProblem.element),
      h('form', { class: 'card stack', on: { submit: (e) => { e.preventDefault(); void app.join(); } } },
        h('div', {},
          h('h1', {}, t('pre.title')),
          h('p', { class: 'code' }, t('pre.room', { room: app.state.room }))),
        h('div', { class: 'field' }, h('label', { for: 'name' }, t('start.name')), name),
        ...devices.map((d) => d.element),
        problem.element, join)));

  let metered: MediaStreamTrack | null = null;
  let stopMeter = () => {};
  let faceOf: string | null = null;

  const listen = (s: State) => {
    const track = s.own.microphone.on && !s.own.microphone.busy ? app.media.track('microphone') : null;
    if (track === metered) return;
    stopMeter();
    stopMeter = () => {};
    metered = track;
    bar.style.setProperty('--level', '0');
    if (track) stopMeter = meter(track, (value) => bar.style.setProperty('--level', value.toFixed(2)));
  };

  return {
    element,
    update(s) {
      const track = s.own.camera.on && !s.own.camera.busy ? app.media.track('camera') : null;
      showTrack(video, track);
      face.hidden = track !== null;
      if (faceOf !== s.name) {
        faceOf = s.name;
        face.replaceChildren(avatar(s.name));
      }
      says.hidden = track !== null;
      setText(says, t(s.own.camera.busy ? 'pre.camera.starting' : s.own.camera.problem ? 'pre.camera.none' : 'pre.camera.off'));
      mic.update(s);
      camera.update(s);
      level.classList.toggle('off', !s.own.microphone.on);
      listen(s);
      for (const d of devices) d.update(s);

      const failed = (['microphone', 'camera'] as const).find((source) => s.own[source].problem);
      const why = failed ? s.own[failed].problem : '';
      if (!failed || !why) deviceProblem.say(null);
      else if (why === 'insecure') deviceProblem.show('insecure');
      else deviceProblem.say(t(`device.${why}.${failed}` as Key), t(`device.${why}.hint` as Key));

      if (name.value !== s.name) name.value = s.name;
      if (s.problem === 'name') {
        problem.say(t('pre.name.missing'));
        name.focus();
      } else {
        problem.show(s.problem);
      }
      join.disabled = s.busy !== '';
      setText(join, t(s.busy ? 'pre.joining' : 'pre.join'));
    },
    close() {
      stopMeter();
      video.srcObject = null;
    },
  };
}

function toggle(app: App, source: Exclude<OwnSource, 'screen'>): { element: HTMLElement; update(s: State): void } {
  const element = h('button', { class: 'round', type: 'button', data: { action: source }, on: { click: () => app.toggle(source) } });
  let drawn = '';
  return {
    element,
    update(s) {
      const { on, busy } = s.own[source];
      const state = `${on} ${busy}`;
      if (drawn === state) return;
      drawn = state;
      element.classList.toggle('off', !on);
      element.classList.toggle('busy', busy);
      const label = source === 'microphone'
        ? t(on ? 'control.mic.mute' : 'control.mic.unmute') : t(on ? 'control.camera.stop' : 'control.camera.start');
      setAttribute(element, 'aria-label', label);
      setAttribute(element, 'title', label);
      element.replaceChildren(icon(source === 'microphone' ? (on ? 'mic' : 'micOff') : (on ? 'camera' : 'cameraOff')));
    },
  };
}

/** Shows a track in a video element; null clears it. */
export function showTrack(video: HTMLVideoElement, track: MediaStreamTrack | null): void {
  const shown = video.srcObject instanceof MediaStream ? (video.srcObject.getVideoTracks()[0] ?? null) : null;
  if (shown === track) return;
  video.srcObject = track ? new MediaStream([track]) : null;
  if (track) video.play().catch(() => undefined); // a hidden page plays when it is seen
}
