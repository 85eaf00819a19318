// The page as a whole: the screen that the state names, the settings above it,
// the notices above both. A change of language draws everything anew.

import type { App } from '../app';
import { language } from '../i18n';
import type { State } from '../state';
import { h } from './dom';
import { meetingView } from './meeting';
import { overView } from './over';
import { previewView } from './preview';
import { settingsView } from './settings';
import { startView } from './start';
import type { View } from './view';

const screens: Record<State['screen'], (app: App) => View> = {
  start: startView, preview: previewView, meeting: meetingView, over: overView,
};

export function mount(app: App, body: HTMLElement): void {
  const notices = h('div', { class: 'notices', role: 'status', live: 'polite' });
  let drawn = '';
  let screen: View | null = null;
  let settings: View | null = null;

  const update = (s: State) => {
    const now = `${s.screen} ${s.language} ${s.screen === 'over' ? s.over : ''} ${s.screen === 'preview' ? s.room : ''}`;
    if (now !== drawn) {
      drawn = now;
      screen?.close?.();
      screen?.element.remove();
      settings?.element.remove();
      document.documentElement.lang = language();
      screen = screens[s.screen](app);
      settings = settingsView(app);
      body.prepend(screen.element, settings.element);
    }
    screen?.update(s);
    settings?.update(s);
    drawNotices(notices, s);
  };

  body.append(notices);
  app.store.subscribe(update);
  update(app.state);
}

function drawNotices(holder: HTMLElement, s: State): void {
  const ids = new Set(s.notices.map((n) => String(n.id)));
  for (const child of [...holder.children] as HTMLElement[]) if (!ids.has(child.dataset['id'] ?? '')) child.remove();
  const known = new Set(([...holder.children] as HTMLElement[]).map((child) => child.dataset['id']));
  for (const n of s.notices) {
    if (!known.has(String(n.id))) holder.append(h('div', { class: `notice ${n.tone}`, data: { id: String(n.id) } }, n.text));
  }
}
