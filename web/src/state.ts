// What the page shows, as one value, and how each action changes it. Pure: no
// browser, no network, so that every change can be tested. Only the reducer
// makes new states; the screens in ui/ read them.

import type { Text } from './i18n';
import type { Devices, MediaProblem } from './media';
import type { Grade, JoinOK, Participant, RecordingState, Role, ServerEvent, Slot, Source, Track } from './wire';

export type Screen = 'start' | 'preview' | 'meeting' | 'over';
export type Panel = '' | 'people' | 'chat';
/** How signaling fares. */
export type Link = 'joining' | 'open' | 'resuming' | 'rejoining' | 'closing';
/** How media fares, as the browser and the server see it together. */
export type Media = 'connecting' | 'connected' | 'interrupted' | 'blocked';
export type Over = 'left' | 'removed' | 'ended' | 'replaced' | 'failed';

export interface Own {
  on: boolean; // what the person wants: unmuted, camera on, sharing
  busy: boolean; // a device is being opened
  problem: MediaProblem | ''; // why it is not on though wanted
  track: string; // its id in the meeting, '' before publishing
}
export type OwnSource = 'microphone' | 'camera' | 'screen';

export interface ChatLine { id: string; from: string; name: string; text: string; at: number }
export interface Notice { id: number; text: Text; tone: 'plain' | 'warn' | 'chat' }

export interface State {
  screen: Screen;
  room: string;
  name: string;
  busy: '' | 'creating' | 'joining';
  problem: string; // error code shown on start, preview and over
  needsOwner: boolean; // the server wants the owner token to open meetings
  over: Over;
  devices: Devices;

  me: string;
  role: Role;
  people: readonly Participant[];
  slots: readonly Slot[];
  speaker: string;
  recording: RecordingState;
  canRecord: boolean; // this server does
  recordingBusy: boolean; // the host has asked to begin or end it
  own: Readonly<Record<OwnSource, Own>>;
  link: Link;
  media: Media;
  receivers: number; // grows when slots may have new receivers
  soundBlocked: boolean;

  quality: Readonly<Record<string, Grade>>; // how tracks arrive that do not arrive well
  pinned: string; // key of the tile that is to be large, '' for none
  panel: Panel;
  settings: boolean;
  confirming: string; // participant that the host is about to remove
  chat: readonly ChatLine[];
  draft: string;
  unread: number;
  notices: readonly Notice[];
  language: string; // a change redraws everything
}

export type Action =
  | { type: 'start' }
  | { type: 'preview'; room: string }
  | { type: 'name'; name: string }
  | { type: 'busy'; busy: State['busy'] }
  | { type: 'problem'; code: string }
  | { type: 'needsOwner' }
  | { type: 'over'; over: Over; code?: string }
  | { type: 'devices'; devices: Devices }
  | { type: 'own'; source: OwnSource; set: Partial<Own> }
  | { type: 'joined'; reply: JoinOK }
  | { type: 'event'; event: ServerEvent }
  | { type: 'link'; link: Link }
  | { type: 'media'; media: Media }
  | { type: 'recordingBusy'; busy: boolean }
  | { type: 'receivers' }
  | { type: 'sound'; blocked: boolean }
  | { type: 'pin'; key: string }
  | { type: 'panel'; panel: Panel }
  | { type: 'settings'; open: boolean }
  | { type: 'confirm'; participant: string }
  | { type: 'draft'; text: string }
  | { type: 'notice'; notice: Notice }
  | { type: 'noticeGone'; id: number }
  | { type: 'language'; language: string };

const chatKept = 500;
const noticesShown = 4;
const nothing: Own = { on: false, busy: false, problem: '', track: '' };

const notRecorded: RecordingState = { active: false, since: 0, by: '' };

export function initialState(name: string, language: string): State {
  return {
    screen: 'start', room: '', name, busy: '', problem: '', needsOwner: false, over: 'left',
    devices: { microphone: [], camera: [], speaker: [] },
    me: '', role: 'participant', people: [], slots: [], speaker: '',
    recording: notRecorded, canRecord: false, recordingBusy: false,
    own: { microphone: nothing, camera: nothing, screen: nothing },
    link: 'joining', media: 'connecting', receivers: 0, soundBlocked: false,
    quality: {}, pinned: '', panel: '', settings: false, confirming: '', chat: [], draft: '', unread: 0, notices: [],
    language,
  };
}

export function reduce(s: State, a: Action): State {
  switch (a.type) {
    case 'start':
      return { ...initialState(s.name, s.language), needsOwner: s.needsOwner, devices: s.devices };
    case 'preview':
      return {
        ...initialState(s.name, s.language), screen: 'preview', room: a.room, devices: s.devices,
        own: { ...s.own, screen: nothing },
      };
    case 'name':
      return { ...s, name: a.name, problem: '' };
    case 'busy':
      return { ...s, busy: a.busy, problem: a.busy ? '' : s.problem };
    case 'problem':
      return { ...s, busy: '', problem: a.code };
    case 'needsOwner':
      return { ...s, busy: '', needsOwner: true };
    case 'over':
      return {
        ...initialState(s.name, s.language), screen: 'over', over: a.over, problem: a.code ?? '', room: s.room,
        devices: s.devices, own: s.own, needsOwner: s.needsOwner,
      };
    case 'devices':
      return { ...s, devices: a.devices };
    case 'own':
      return { ...s, own: { ...s.own, [a.source]: { ...s.own[a.source], ...a.set } } };
    case 'joined':
      return joined(s, a.reply);
    case 'event':
      return event(s, a.event);
    case 'link':
      return { ...s, link: a.link };
    case 'media':
      return s.media === a.media ? s : { ...s, media: a.media };
    case 'recordingBusy':
      return { ...s, recordingBusy: a.busy };
    case 'receivers':
      return { ...s, receivers: s.receivers + 1 };
    case 'sound':
      return s.soundBlocked === a.blocked ? s : { ...s, soundBlocked: a.blocked };
    case 'pin':
      return { ...s, pinned: s.pinned === a.key ? '' : a.key };
    case 'panel':
      return a.panel === 'chat'
        ? { ...s, panel: a.panel, confirming: '', unread: 0, notices: s.notices.filter((n) => n.tone !== 'chat') }
        : { ...s, panel: a.panel, confirming: '' };
    case 'settings':
      return { ...s, settings: a.open };
    case 'confirm':
      return { ...s, confirming: a.participant };
    case 'draft':
      return { ...s, draft: a.text };
    case 'notice':
      return { ...s, notices: [...s.notices, a.notice].slice(-noticesShown) };
    case 'noticeGone':
      return { ...s, notices: s.notices.filter((n) => n.id !== a.id) };
    case 'language':
      return { ...s, language: a.language };
  }
}

// Also after a rejoin: then chat, panel and draft stay, everything of the old seat goes.
function joined(s: State, reply: JoinOK): State {
  const id = (source: Source) => reply.tracks.find((t) => t.source === source)?.track ?? '';
  const own = {
    microphone: { ...s.own.microphone, track: id('microphone') },
    camera: { ...s.own.camera, track: id('camera') },
    screen: { ...s.own.screen, track: id('screen') },
  };
  return {
    ...s, screen: 'meeting', busy: '', problem: '', link: 'open', media: 'connecting',
    room: reply.room, me: reply.participant, role: reply.role, people: reply.roster, slots: [], speaker: '', quality: {}, own,
    recording: reply.recording ?? notRecorded, canRecord: reply.canRecord ?? false, recordingBusy: false,
  };
}

function event(s: State, e: ServerEvent): State {
  switch (e.type) {
    case 'joined':
      return { ...s, people: [...s.people.filter((p) => p.id !== e.participant.id), e.participant] };
    case 'updated':
      return { ...s, people: s.people.map((p) => (p.id === e.participant.id ? e.participant : p)) };
    case 'left':
      return {
        ...s,
        people: s.people.filter((p) => p.id !== e.participant),
        slots: s.slots.map((slot) => (slot.participant === e.participant ? { ...slot, track: '', participant: '' } : slot)),
        speaker: s.speaker === e.participant ? '' : s.speaker,
        confirming: s.confirming === e.participant ? '' : s.confirming,
      };
    case 'trackAdded':
      return tracks(s, e.participant, (list) => [...list.filter((t) => t.id !== e.track.id), e.track]);
    case 'trackRemoved':
      return {
        ...tracks(s, e.participant, (list) => list.filter((t) => t.id !== e.track)),
        slots: s.slots.map((slot) => (slot.track === e.track ? { ...slot, track: '', participant: '' } : slot)),
      };
    case 'trackMuted':
      return tracks(s, e.participant, (list) => list.map((t) => (t.id === e.track ? { ...t, muted: e.muted } : t)));
    case 'trackLive':
      return tracks(s, e.participant, (list) => list.map((t) => (t.id === e.track ? { ...t, live: true } : t)));
    case 'slots':
      return { ...s, slots: e.slots };
    case 'quality': {
      const quality = { ...s.quality };
      for (const { track, grade } of e.tracks) {
        if (grade === 'good') delete quality[track];
        else quality[track] = grade;
      }
      return { ...s, quality };
    }
    case 'speaker':
      return { ...s, speaker: e.participant };
    case 'recording':
      return { ...s, recording: e.recording };
    case 'chat': {
      if (s.chat.some((line) => line.id === e.id)) return s;
      const line: ChatLine = { id: e.id, from: e.from, name: e.name, text: e.text, at: e.at };
      const seen = s.panel === 'chat' || e.from === s.me;
      return { ...s, chat: [...s.chat, line].slice(-chatKept), unread: seen ? s.unread : s.unread + 1 };
    }
    default: // the room acts on the others, and a newer server may have some that nobody here knows
      return s;
  }
}

function tracks(s: State, participant: string, change: (list: Track[]) => Track[]): State {
  return { ...s, people: s.people.map((p) => (p.id === participant ? { ...p, tracks: change(p.tracks) } : p)) };
}

/** The people in the meeting, without the seat that stands for the viewers of its broadcast. */
export function seats(s: State): readonly Participant[] {
  return s.people.filter((p) => !p.broadcast);
}

/** What is to be subscribed: every track of the others. */
export function wantedTracks(s: State): string[] {
  return s.people.filter((p) => p.id !== s.me).flatMap((p) => p.tracks.map((t) => t.id));
}

/** One picture on the stage. */
export interface Tile {
  key: string;
  participant: string;
  name: string;
  kind: 'person' | 'screen';
  self: boolean;
  host: boolean;
  mid: string; // slot that shows it, '' if none or own
  video: string; // track id of the picture, '' if there is none or it is muted
  muted: boolean; // no sound from this person
  speaking: boolean;
  pinned: boolean;
  quality: Grade; // of the worst of what the tile stands for
  connected: boolean;
}

function worst(s: State, ...list: (Track | undefined)[]): Grade {
  const grades = list.map((track) => s.quality[track?.id ?? '']);
  return grades.find((g) => g === 'poor') ?? grades.find((g) => g === 'fair') ?? 'good';
}

/** The tile that is shown large, beside or above all others: the pinned one, or a shared screen. */
export function largeTile(all: readonly Tile[]): Tile | undefined {
  return all.find((tile) => tile.pinned) ?? all.find((tile) => tile.kind === 'screen');
}

/** The stage: shared screens of others first, then people in the order they came, oneself first. */
export function tiles(s: State): Tile[] {
  const slotOf = (track: string) => s.slots.find((slot) => slot.track === track)?.mid ?? '';
  const screens: Tile[] = [];
  const persons: Tile[] = [];
  for (const p of seats(s)) {
    const self = p.id === s.me;
    const by = (source: Source) => p.tracks.find((t) => t.source === source);
    const camera = by('camera');
    const screen = by('screen');
    const microphone = by('microphone');
    const base = { participant: p.id, name: p.name, self, host: p.role === 'host', connected: p.connected || self };
    if (screen && !screen.muted && !self) {
      screens.push({
        ...base, key: `${p.id}/screen`, kind: 'screen', mid: slotOf(screen.id), video: screen.id, muted: false, speaking: false,
        pinned: s.pinned === `${p.id}/screen`, quality: worst(s, screen),
      });
    }
    const picture = self ? s.own.camera.on && !s.own.camera.busy : camera !== undefined && !camera.muted;
    const muted = self ? !s.own.microphone.on : (microphone?.muted ?? true);
    const tile: Tile = {
      ...base, key: p.id, kind: 'person', mid: picture && !self ? slotOf(camera?.id ?? '') : '',
      video: picture ? camera?.id || 'own' : '', muted, speaking: !muted && s.speaker === p.id,
      pinned: !self && s.pinned === p.id, quality: worst(s, microphone, camera),
    };
    if (self) persons.unshift(tile);
    else persons.push(tile);
  }
  return [...screens, ...persons];
}
