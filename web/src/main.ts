// Starts the page: reads the address, picks the language, draws.

import './style/tokens.css';
import './style/base.css';
import './style/pages.css';
import './style/meeting.css';
import './style/watch.css';
import { App } from './app';
import { testHandle, watchHandle } from './handle';
import type { TestHandle, WatchHandle } from './handle';
import { pickLanguage, setLanguage } from './i18n';
import { parseRoute } from './route';
import { preference } from './settings';
import { h } from './ui/dom';
import { listenToKeys, listenToWatchKeys } from './ui/keyboard';
import { mount } from './ui/root';
import { mountWatch } from './ui/watch';
import { Watching } from './watching';

declare global {
  interface Window {
    readonly sotto: TestHandle | WatchHandle;
  }
}

const { options, room, watch } = parseRoute(new URL(location.href));
const language = pickLanguage(options.language ?? preference('language'), navigator.languages);
setLanguage(language);

const sound = h('div', { hidden: true });
document.body.append(sound);
if (watch) startWatch();
else startMeeting();

function startMeeting(): void {
  const app = new App(options, language, sound);
  Object.defineProperty(window, 'sotto', { value: testHandle(app) });
  mount(app, document.body);
  listenToKeys(app);
  addEventListener('popstate', () => void app.open());
  addEventListener('online', () => app.networkChanged());
  addEventListener('pagehide', () => app.room.leave());
  // What the browser holds back until the person touches the page.
  addEventListener('pointerdown', () => app.state.soundBlocked && app.soundOn(), { capture: true });
  addEventListener('keydown', () => app.state.soundBlocked && app.soundOn(), { capture: true });
  navigator.mediaDevices?.addEventListener('devicechange', () => app.devicesChanged());
  void app.open();
}

function startWatch(): void {
  const app = new Watching(room, language, sound);
  Object.defineProperty(window, 'sotto', { value: watchHandle(app) });
  mountWatch(app, document.body);
  listenToWatchKeys(app);
  addEventListener('hashchange', () => void app.start());
  addEventListener('online', () => app.networkChanged());
  addEventListener('pagehide', () => app.leave());
  addEventListener('pointerdown', () => app.state.blocked && app.soundOn(), { capture: true });
  void app.start();
}

addEventListener('pageshow', (e) => e.persisted && location.reload()); // the seat was given up when it was hidden
