// window.sotto: the page as tests and the browser console see it. Reading it
// changes nothing; the methods are the ones that the buttons call. It gives
// nothing that the page's own script could not reach.

import type { App } from './app';
import { traced } from './trace';
import type { Watching } from './watching';

export function testHandle(app: App) {
  const { store, media, room } = app;
  return Object.freeze({
    /** The state of the page: see state.ts. */
    get state() { return store.get(); },
    /** The RTCPeerConnection of the stay, or null. */
    get pc() { return room.peer?.pc ?? null; },
    /** Everybody in the meeting, oneself included. */
    get roster() { return store.get().people; },
    /** Own captured tracks by source. */
    get own() {
      return Object.fromEntries((['microphone', 'camera', 'screen', 'screen-audio'] as const).map((s) => [s, media.track(s)]));
    },
    /** What plays in each slot: mid → { track, participant, source, receiver }. Free slots are left out. */
    get slots() {
      const { slots, people } = store.get();
      return Object.fromEntries(slots.filter((s) => s.track).map((s) => [s.mid, {
        track: s.track,
        participant: s.participant,
        source: people.find((p) => p.id === s.participant)?.tracks.find((t) => t.id === s.track)?.source ?? '',
        receiver: room.peer?.receiver(s.mid) ?? null,
      }]));
    },
    /** The last things that happened, one a line. */
    get log() { return traced(); },

    newMeeting: (ownerToken?: string) => app.newMeeting(ownerToken),
    setName: (name: string) => app.setName(name),
    join: () => app.join(),
    leave: () => app.leave(),
    microphone: (on: boolean) => app.set('microphone', on),
    camera: (on: boolean) => app.set('camera', on),
    screen: (on: boolean) => app.set('screen', on),
    chat: (text: string) => app.sendChat(text),
    mute: (participant: string, track?: string) => app.muteOther(participant, track),
    remove: (participant: string) => app.remove(participant),
    chooseDevice: (kind: 'microphone' | 'camera' | 'speaker', id: string) => app.chooseDevice(kind, id),
    /** Keeps a tile large, or no more: a participant's id, with "/screen" behind it for a shared screen. */
    pin: (key: string) => app.pin(key),
    panel: (panel: '' | 'people' | 'chat') => app.panel(panel),
    soundOn: () => app.soundOn(),

    /** Ends the socket as a broken network would. */
    dropSocket: () => room.dropSocket(),
    /** Asks for an ICE restart. */
    restart: () => room.restart(),
    /** What a change of network triggers. */
    networkChanged: () => app.networkChanged(),
  });
}

export type TestHandle = ReturnType<typeof testHandle>;

/** The same for the page of a broadcast. */
export function watchHandle(app: Watching) {
  return Object.freeze({
    /** The state of the page: see watching.ts. */
    get state() { return app.state; },
    /** The RTCPeerConnection of the session, or null. */
    get pc() { return app.pc; },
    /** The last things that happened, one a line. */
    get log() { return traced(); },
    soundOn: () => app.soundOn(),
    toggleSound: () => app.toggleSound(),
    /** Asks for an ICE restart. */
    restart: () => app.restart(),
    /** What a change of network triggers. */
    networkChanged: () => app.networkChanged(),
  });
}

export type WatchHandle = ReturnType<typeof watchHandle>;
