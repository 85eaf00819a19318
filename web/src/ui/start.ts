// The first page: a name, a meeting of one's own, or the link of another's.

import type { App } from '../app';
import { raw, t } from '../i18n';
import type { Key } from '../i18n';
import { h, setText } from './dom';
import { icon } from './icons';
import type { Icon } from './icons';
import { avatar, pageHead, problemBox } from './parts';
import type { View } from './view';

export function startView(app: App): View {
  const name = h('input', {
    class: 'input', id: 'name', name: 'name', autocomplete: 'name', maxLength: 64,
    placeholder: t('start.name.placeholder'), value: app.state.name, on: { input: () => app.setName(name.value) },
  });
  const owner = h('input', { class: 'input', id: 'owner', type: 'password', autocomplete: 'off' });
  const ownerField = h('div', { class: 'field', hidden: true },
    h('label', { for: 'owner' }, t('start.owner')), owner, h('p', { class: 'help' }, t('start.owner.help')));
  const create = h('button', { class: 'button primary large', type: 'submit', data: { action: 'new' } });
  const problem = problemBox();
  const link = h('input', {
    class: 'input', id: 'link', autocomplete: 'off', placeholder: t('start.link.placeholder'),
    label: t('start.link'), on: { input: () => setBad(false) },
  });
  const bad = h('p', { class: 'help warn', role: 'alert', hidden: true }, t('start.link.bad'));
  const setBad = (is: boolean) => {
    bad.hidden = !is;
    link.toggleAttribute('aria-invalid', is);
  };

  const element = h('div', { class: 'page start' },
    pageHead(app),
    h('main', { class: 'start-body' },
      h('section', { class: 'start-words' },
        h('h1', {}, t('app.tagline')),
        h('p', { class: 'lead' }, t('app.lead')),
        h('form', { class: 'stack', on: { submit: (e) => { e.preventDefault(); void app.newMeeting(owner.value.trim()); } } },
          h('div', { class: 'field' }, h('label', { for: 'name' }, t('start.name')), name),
          ownerField, create, problem.element),
        h('p', { class: 'divider' }, t('start.or')),
        h('form', { class: 'stack', on: { submit: (e) => { e.preventDefault(); setBad(!app.goTo(link.value)); } } },
          h('div', { class: 'join-row' }, link, h('button', { class: 'button', type: 'submit', data: { action: 'go' } }, t('start.join'))),
          bad)),
      art()));

  return {
    element,
    update(s) {
      ownerField.hidden = !s.needsOwner;
      if (name.value !== s.name) name.value = s.name;
      create.disabled = s.busy !== '';
      create.replaceChildren(icon('plus'), h('span', {}, t(s.busy ? 'start.creating' : 'start.new')));
      problem.show(s.problem);
    },
  };
}

// A meeting in miniature, and what it stands for.
function art(): HTMLElement {
  const faces = ['Mio', 'Sam', 'Ada', 'Ken'].map((name, i) => h('span', { class: `art-tile art-${i}` }, avatar(name), h('i')));
  const scene = h('div', { class: 'art-scene' }, ...faces);
  scene.setAttribute('aria-hidden', 'true');
  const point = (glyph: Icon, key: Key) => h('li', {}, icon(glyph), h('span', {}, t(key)));
  const list = h('ul', { class: 'points' },
    point('link', 'start.point.link'), point('home', 'start.point.yours'), point('sound', 'start.point.clear'));
  const aside = h('aside', { class: 'start-art' }, scene, list);
  for (const i of scene.querySelectorAll('i')) setText(i, raw(''));
  return aside;
}
