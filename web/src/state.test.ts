import { expect, test } from 'vitest';
import { initialState, largeTile, reduce, seats, tiles, wantedTracks } from './state';
import type { Action, State } from './state';
import type { JoinOK, Participant, ServerEvent, Track } from './wire';

function track(id: string, source: Track['source'], muted = false): Track {
  const kind = source === 'microphone' || source === 'screen-audio' ? 'audio' : 'video';
  return { id, source, kind, codec: kind === 'audio' ? 'opus' : 'vp8', muted, simulcast: false, live: true };
}

function person(id: string, ...list: Track[]): Participant {
  return { id, name: id.toUpperCase(), role: 'participant', tracks: list, connected: true };
}

const reply = {
  type: 'join.ok', participant: 'me', role: 'host', room: 'r', tracks: [{ source: 'microphone', track: 'm0' }],
  roster: [person('a', track('a1', 'microphone'), track('a2', 'camera')), person('me', track('m0', 'microphone'))],
} as unknown as JoinOK;

function run(...actions: (Action | ServerEvent)[]): State {
  const known = new Set(['joined', 'left', 'updated', 'trackAdded', 'trackRemoved', 'trackMuted', 'trackLive', 'slots', 'speaker', 'quality', 'recording', 'chat']);
  return actions.reduce<State>(
    (s, a) => reduce(s, known.has(a.type) && !('reply' in a) ? { type: 'event', event: a as ServerEvent } : (a as Action)),
    reduce(initialState('Me', 'en'), { type: 'joined', reply }),
  );
}

test('joining shows the meeting with own track ids', () => {
  const s = run();
  expect(s.screen).toBe('meeting');
  expect(s.own.microphone.track).toBe('m0');
  expect(wantedTracks(s)).toEqual(['a1', 'a2']);
});

test('people come, change and go with their tracks and slots', () => {
  let s = run(
    { type: 'joined', participant: person('b', track('b1', 'microphone')) },
    { type: 'trackAdded', participant: 'b', track: track('b2', 'screen') },
    { type: 'slots', slots: [{ mid: '5', track: 'b2', participant: 'b' }, { mid: '6', track: 'a2', participant: 'a' }] },
    { type: 'speaker', participant: 'b' },
  );
  expect(tiles(s).map((t) => [t.key, t.mid])).toEqual([['b/screen', '5'], ['me', ''], ['a', '6'], ['b', '']]);
  expect(tiles(s).filter((t) => t.speaking).map((t) => t.key)).toEqual(['b']);

  s = reduce(s, { type: 'event', event: { type: 'left', participant: 'b', reason: 'leave' } });
  expect(tiles(s).map((t) => t.key)).toEqual(['me', 'a']);
  expect(s.speaker).toBe('');
  expect(s.slots[0]).toEqual({ mid: '5', track: '', participant: '' });
});

test('a tile is as good as the worst of its tracks, until that is good again or gone', () => {
  const b = person('b', track('b1', 'microphone'), track('b2', 'camera'), track('b3', 'screen'));
  const graded = (s: State) => tiles(s).map((t) => `${t.key} ${t.quality}`);
  let s = run({ type: 'joined', participant: b }, {
    type: 'quality', tracks: [{ track: 'b1', grade: 'fair' }, { track: 'b2', grade: 'poor' }, { track: 'b3', grade: 'fair' }, { track: 'm0', grade: 'fair' }],
  });
  expect(graded(s)).toEqual(['b/screen fair', 'me fair', 'a good', 'b poor']);
  s = reduce(s, { type: 'event', event: { type: 'quality', tracks: [{ track: 'b2', grade: 'good' }, { track: 'b3', grade: 'good' }] } });
  expect(graded(s)).toEqual(['b/screen good', 'me fair', 'a good', 'b fair']);
  expect(graded(reduce(s, { type: 'joined', reply }))).toEqual(['me good', 'a good']);
});

test('the pinned tile is large, before a shared screen, while it is there', () => {
  let s = run({ type: 'joined', participant: person('b', track('b1', 'camera'), track('b2', 'screen')) });
  expect(largeTile(tiles(s))?.key).toBe('b/screen');
  s = reduce(s, { type: 'pin', key: 'a' });
  expect(largeTile(tiles(s))?.key).toBe('a');
  expect(largeTile(tiles(reduce(s, { type: 'pin', key: 'a' })))?.key).toBe('b/screen');
  expect(largeTile(tiles(reduce(s, { type: 'pin', key: 'b' })))?.key).toBe('b');
  s = reduce(s, { type: 'event', event: { type: 'left', participant: 'a', reason: 'leave' } });
  expect(largeTile(tiles(s))?.key).toBe('b/screen');
  expect(largeTile(tiles(run()))).toBeUndefined();
});

test('a recording is shown from the first moment, and until it ends', () => {
  const active = { active: true, since: 5, by: 'a' };
  expect(run().recording.active).toBe(false);
  expect(run({ type: 'joined', reply: { ...reply, recording: active, canRecord: true } as JoinOK })).toMatchObject({ recording: active, canRecord: true });
  let s = run({ type: 'recording', recording: active });
  expect(s.recording).toEqual(active);
  s = reduce(s, { type: 'event', event: { type: 'recording', recording: { ...active, active: false, ended: 'full' } } });
  expect(s.recording.active).toBe(false);
});

test('a muted camera has no picture, a muted microphone no ring', () => {
  const s = run(
    { type: 'speaker', participant: 'a' },
    { type: 'trackMuted', participant: 'a', track: 'a1', muted: true, by: 'a' },
    { type: 'trackMuted', participant: 'a', track: 'a2', muted: true, by: 'a' },
  );
  expect(tiles(s).find((t) => t.key === 'a')).toMatchObject({ video: '', muted: true, speaking: false });
});

test('an unbound slot shows nothing of the one before', () => {
  const s = run(
    { type: 'slots', slots: [{ mid: '6', track: 'a2', participant: 'a' }] },
    { type: 'trackRemoved', participant: 'a', track: 'a2' },
  );
  expect(tiles(s).find((t) => t.key === 'a')).toMatchObject({ video: '', mid: '' });
});

test('chat counts what was not seen and takes a line once', () => {
  const line = (id: string, from: string): ServerEvent => ({ type: 'chat', id, from, name: from, text: 'x', at: 1 });
  let s = run(line('1', 'a'), line('1', 'a'), line('2', 'me'));
  expect([s.chat.length, s.unread]).toEqual([2, 1]);
  s = reduce(s, { type: 'panel', panel: 'chat' });
  expect(s.unread).toBe(0);
});

test('a rejoin keeps the chat and drops the old seat', () => {
  const s = run(
    { type: 'chat', id: '1', from: 'a', name: 'A', text: 'x', at: 1 },
    { type: 'slots', slots: [{ mid: '5', track: 'a2', participant: 'a' }] },
    { type: 'link', link: 'rejoining' },
    { type: 'joined', reply },
  );
  expect([s.chat.length, s.slots.length, s.link]).toEqual([1, 0, 'open']);
});

test('an event of a newer server changes nothing', () => {
  const s = run();
  expect(reduce(s, { type: 'event', event: { type: 'later' } as unknown as ServerEvent })).toBe(s);
});

test('the viewers of a broadcast are nobody on the stage', () => {
  const s = run({ type: 'joined', participant: { ...person('w'), broadcast: true } });
  expect(s.people.map((p) => p.id)).toContain('w');
  expect(seats(s).map((p) => p.id)).toEqual(['a', 'me']);
  expect(tiles(s).map((t) => t.key)).toEqual(['me', 'a']);
});
