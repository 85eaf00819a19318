// The keys of the meeting, and those of the broadcast: single letters, only
// while nobody is typing.

import type { App } from '../app';
import type { Watching } from '../watching';
import { toggleFull, watchKeys } from './watch';

export const keys = {
  mic: 'm', camera: 'v', share: 's', chat: 'c', people: 'p', copy: 'l', settings: ',',
} as const;

export function listenToKeys(app: App): void {
  const actions: Record<string, () => void> = {
    [keys.mic]: () => app.toggle('microphone'),
    [keys.camera]: () => app.toggle('camera'),
    [keys.share]: () => app.toggle('screen'),
    [keys.chat]: () => app.panel('chat'),
    [keys.people]: () => app.panel('people'),
    [keys.copy]: () => void app.copyLink(),
    [keys.settings]: () => app.settings(true),
  };
  addEventListener('keydown', (e) => {
    const { screen, settings, panel } = app.state;
    if (screen !== 'meeting' || settings || e.ctrlKey || e.metaKey || e.altKey || e.isComposing || e.repeat) return;
    if (e.key === 'Escape' && panel) {
      if (app.state.confirming) app.confirm('');
      else app.panel(panel);
      return;
    }
    if (e.target instanceof Element && e.target.closest('input, textarea, select, [contenteditable]')) return;
    const action = actions[e.key.toLowerCase()];
    if (!action) return;
    e.preventDefault(); // or the letter lands in the field that the key opens
    action();
  });
}

export function listenToWatchKeys(app: Watching): void {
  const actions: Record<string, () => void> = { [watchKeys.sound]: () => app.toggleSound(), [watchKeys.expand]: toggleFull };
  addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.repeat) return;
    const { blocked } = app.state;
    if (blocked) app.soundOn(); // any key will do
    if (e.target instanceof Element && e.target.closest('select')) return;
    const key = e.key.toLowerCase();
    const action = actions[key];
    if (!action) return;
    e.preventDefault();
    if (key !== watchKeys.sound || !blocked) action(); // it has just done what was wanted
  });
}
