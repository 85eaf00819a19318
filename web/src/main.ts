// Starts the page: reads the address, picks the language, draws.

import './style/tokens.css';
import './style/base.css';
import './style/pages.css';
import './style/meeting.css';
import { App } from './app';
import { testHandle } from './handle';
import type { TestHandle } from './handle';
import { pickLanguage, setLanguage } from './i18n';
import { parseRoute } from './route';
import { preference } from './settings';
import { h } from './ui/dom';
import { listenToKeys } from './ui/keyboard';
import { mount } from './ui/root';

declare global {
  interface Window {
    readonly sotto: TestHandle;
  }
}

const { options } = parseRoute(new URL(location.href));
const language = pickLanguage(options.language ?? preference('language'), navigator.languages);
setLanguage(language);

const sound = h('div', { hidden: true });
document.body.append(sound);
const app = new App(options, language, sound);
Object.defineProperty(window, 'sotto', { value: testHandle(app) });

mount(app, document.body);
listenToKeys(app);
addEventListener('popstate', () => void app.open());
addEventListener('online', () => app.networkChanged());
addEventListener('pagehide', () => app.room.leave());
addEventListener('pageshow', (e) => e.persisted && location.reload()); // the seat was given up when it was hidden
addEventListener('pointerdown', () => app.state.soundBlocked && app.soundOn(), { capture: true });
addEventListener('keydown', () => app.state.soundBlocked && app.soundOn(), { capture: true });
navigator.mediaDevices?.addEventListener('devicechange', () => app.devicesChanged());
void app.open();
