// What a person can do with the page, each as one method: the screens, the
// keyboard and the test handle all call these. Holds the parts together and
// moves between the screens.

import { failureOf, openMeeting, watchToken } from './api';
import { AudioSinks } from './audio';
import { errorText, setLanguage, t } from './i18n';
import type { Key, Language, Text } from './i18n';
import { LocalMedia, listDevices } from './media';
import { Publishing } from './publishing';
import { Room } from './room';
import { linkOf, parseRoute, roomOf, watchLinkOf } from './route';
import type { Options } from './route';
import { scalabilityOf } from './scalability';
import { hostToken, preference, remember, rememberHost } from './settings';
import { initialState, reduce } from './state';
import type { Action, Notice, OwnSource, Panel, State } from './state';
import { createStore } from './store';
import type { Store } from './store';
import { trace } from './trace';
import { keepAwake } from './wake';
import type { RecordingEnd, Source } from './wire';

// How long a notice stays for people to read it; those that want something done, longer.
const noticeMs = { plain: 5000, chat: 5000, warn: 8000 };
const nameChars = 64;

export class App {
  readonly store: Store<State, Action>;
  readonly media: LocalMedia;
  readonly room: Room;
  private readonly publishing: Publishing;
  private readonly sinks: AudioSinks;
  private readonly options: Options;
  private notices = 0;

  constructor(options: Options, language: Language, soundHolder: HTMLElement) {
    this.options = options;
    this.store = createStore<State, Action>(initialState(options.name || preference('name'), language), reduce);
    this.media = new LocalMedia((source) => this.deviceEnded(source));
    const capabilities = navigator.mediaCapabilities as MediaCapabilities | undefined;
    const ask = capabilities?.encodingInfo.bind(capabilities);
    this.publishing = new Publishing(this.store, this.media, {
      codec: options.codec,
      scalability: scalabilityOf(options.codec, ask),
      failed: (source, problem) => {
        if (this.state.screen !== 'meeting') return; // the preview shows it in place
        if (source === 'screen' && problem === 'denied') return; // a change of mind
        this.notice(problem === 'insecure' ? t('error.insecure') : t(`device.${problem}.${source}` as Key), 'warn');
      },
      refused: (failure) => this.problem(failure.code),
    });
    this.sinks = new AudioSinks(soundHolder, (blocked) => this.store.dispatch({ type: 'sound', blocked }));
    this.room = new Room(this.store, this.publishing, this.sinks, {
      came: (name) => this.notice(t('notice.joined', { name })),
      went: (name, removed) => this.notice(t(removed ? 'notice.removed' : 'notice.left', { name })),
      wrote: (name, text) => this.notice(t('notice.chat', { name, text: text.length > 120 ? `${text.slice(0, 119)}…` : text }), 'chat'),
      back: () => this.notice(t('notice.back')),
      recordingOver: (ended) => this.notice(t(endedNotice[ended || 'stopped']), ended === 'stopped' ? 'plain' : 'warn'),
      mutedByHost: (source) => this.notice(t(mutedNotice[source]), 'warn'),
    });
    this.store.subscribe((s) => this.settled(s));
  }

  get state(): State {
    return this.store.get();
  }

  /** Shows what the address says. */
  async open(): Promise<void> {
    const { room } = parseRoute(new URL(location.href));
    if (this.state.screen === 'meeting') this.room.leave();
    if (!room) {
      this.media.closeAll();
      this.store.dispatch({ type: 'start' });
      return;
    }
    await this.preview(room);
    if (this.options.autojoin) await this.join();
  }

  /** Opens a meeting of one's own. */
  async newMeeting(ownerToken = ''): Promise<void> {
    if (this.state.busy) return;
    this.store.dispatch({ type: 'busy', busy: 'creating' });
    try {
      const { room, hostToken } = await openMeeting(ownerToken || undefined);
      rememberHost(room, hostToken);
      this.store.dispatch({ type: 'busy', busy: '' });
      await this.go(room);
    } catch (e) {
      const { code } = failureOf(e);
      if (code === 'unauthorized' || code === 'forbidden') this.store.dispatch({ type: 'needsOwner' });
      this.store.dispatch({ type: 'problem', code: code === 'unauthorized' && !ownerToken ? '' : code });
    }
  }

  /** Goes to the meeting that a link or code names; false if it names none. */
  goTo(input: string): boolean {
    const room = roomOf(input);
    if (room) void this.go(room);
    return room !== '';
  }

  goHome(): void {
    history.pushState(null, '', '/');
    void this.open();
  }

  /** The page before the meeting: devices on as wished. */
  async preview(room: string): Promise<void> {
    const { own, screen } = this.state;
    this.store.dispatch({ type: 'preview', room });
    const first = screen === 'start';
    await Promise.all((['microphone', 'camera'] as const).map(async (source) => {
      const wanted = first ? this.options[source] : own[source].on || own[source].problem !== '';
      await this.publishing.set(source, wanted);
    }));
    await this.refreshDevices();
  }

  async join(): Promise<void> {
    const { busy, name, screen } = this.state;
    if (busy || screen === 'meeting') return;
    if (!name.trim()) {
      this.store.dispatch({ type: 'problem', code: 'name' });
      return;
    }
    this.setName(name.trim());
    remember('name', name.trim());
    this.store.dispatch({ type: 'busy', busy: 'joining' });
    try {
      await this.room.enter();
    } catch (e) {
      trace('join failed', failureOf(e).code);
      if (this.state.screen === 'preview') this.store.dispatch({ type: 'problem', code: failureOf(e).code });
    }
  }

  leave(): void {
    this.room.leave();
    this.store.dispatch({ type: 'over', over: 'left' });
  }

  setName(name: string): void {
    this.store.dispatch({ type: 'name', name: [...name.replace(/\p{Cc}/gu, '')].slice(0, nameChars).join('') });
  }

  toggle(source: OwnSource): void {
    void this.set(source, !this.state.own[source].on);
  }

  /** Resolves when device and meeting are as wished. */
  set(source: OwnSource, on: boolean): Promise<void> {
    const done = this.publishing.set(source, on);
    return on ? done.then(() => this.refreshDevices()) : done;
  }

  async chooseDevice(kind: 'microphone' | 'camera' | 'speaker', id: string): Promise<void> {
    remember(kind, id);
    if (kind === 'speaker') this.sinks.route();
    else await this.publishing.reopen(kind);
    await this.refreshDevices();
  }

  /** Keeps a tile large; again, or with another one: no more. */
  pin(key: string): void {
    this.store.dispatch({ type: 'pin', key });
  }

  panel(panel: Panel): void {
    this.store.dispatch({ type: 'panel', panel: this.state.panel === panel ? '' : panel });
  }

  settings(open: boolean): void {
    this.store.dispatch({ type: 'settings', open });
    if (open) void this.refreshDevices();
  }

  async sendChat(text: string): Promise<void> {
    const line = text.trim();
    if (!line) return;
    try {
      await this.room.chat(line);
      if (this.state.draft.trim() === line) this.store.dispatch({ type: 'draft', text: '' });
    } catch (e) {
      this.problem(failureOf(e).code);
    }
  }

  /** Host only: mutes everything that somebody says. */
  async muteOther(participant: string, track?: string): Promise<void> {
    await this.room.moderate('mute', participant, track).catch((e: unknown) => this.problem(failureOf(e).code));
  }

  /** Host only. The page asks first, by `confirm`. */
  async remove(participant: string): Promise<void> {
    this.confirm('');
    await this.room.moderate('remove', participant).catch((e: unknown) => this.problem(failureOf(e).code));
  }

  /** Host only: has the server record the meeting, or stop. Everybody is told. */
  async record(on: boolean): Promise<void> {
    if (this.state.recordingBusy) return;
    this.store.dispatch({ type: 'recordingBusy', busy: true });
    await this.room.record(on).catch((e: unknown) => this.problem(failureOf(e).code));
    this.store.dispatch({ type: 'recordingBusy', busy: false });
  }

  /** Asks whether a participant shall be removed; '' takes the question back. */
  confirm(participant: string): void {
    this.store.dispatch({ type: 'confirm', participant });
  }

  async copyLink(): Promise<void> {
    await this.copy(linkOf(this.state.room), t('notice.copied'));
  }

  /** Host only: the link to the broadcast, for viewers without a seat. */
  async copyWatchLink(): Promise<void> {
    const { room } = this.state;
    try {
      const { token } = await watchToken(room, hostToken(room) ?? '');
      await this.copy(watchLinkOf(room, token), t('notice.copied.watch'));
    } catch (e) {
      this.problem(failureOf(e).code);
    }
  }

  setLanguage(l: Language): void {
    remember('language', l);
    setLanguage(l);
    this.store.dispatch({ type: 'language', language: l });
  }

  soundOn(): void {
    this.sinks.resume();
  }

  networkChanged(): void {
    this.room.networkChanged();
  }

  devicesChanged(): void {
    void this.refreshDevices();
  }

  notice(text: Text, tone: Notice['tone'] = 'plain'): void {
    for (const same of this.state.notices.filter((n) => n.text === text)) this.store.dispatch({ type: 'noticeGone', id: same.id });
    const id = ++this.notices;
    this.store.dispatch({ type: 'notice', notice: { id, text, tone } });
    const leave = () => setTimeout(() => this.store.dispatch({ type: 'noticeGone', id }), noticeMs[tone]);
    // Nobody reads a page in the background: the time runs from when it is looked at.
    if (document.visibilityState === 'visible') leave();
    else document.addEventListener('visibilitychange', leave, { once: true });
  }

  private async copy(link: string, done: Text): Promise<void> {
    try {
      await navigator.clipboard.writeText(link);
      this.notice(done);
    } catch {
      this.notice(t('notice.copy.failed', { link }), 'warn');
    }
  }

  private async go(room: string): Promise<void> {
    history.pushState(null, '', `/m/${room}`);
    await this.open();
  }

  private problem(code: string): void {
    if (code !== 'session_gone') this.notice(errorText(code).message, 'warn');
  }

  private async refreshDevices(): Promise<void> {
    this.store.dispatch({ type: 'devices', devices: await listDevices() });
  }

  private deviceEnded(source: Source): void {
    this.publishing.ended(source);
    if (source === 'microphone' || source === 'camera') this.notice(t(`device.ended.${source}`), 'warn');
  }

  // A stay that is over gives the devices back; the wishes stay for the next one.
  private settled(s: State): void {
    if (s.screen === 'over') this.media.closeAll();
    keepAwake(s.screen === 'meeting');
  }
}

const endedNotice: Record<RecordingEnd, Key> = {
  stopped: 'notice.recording.stopped',
  full: 'notice.recording.full',
  failed: 'notice.recording.failed',
};
const mutedNotice: Record<OwnSource, Key> = {
  microphone: 'notice.mutedByHost',
  camera: 'notice.cameraStoppedByHost',
  screen: 'notice.shareStoppedByHost',
};
