// What the browser remembers between visits: the name, the language, the
// devices, and the host tokens of meetings opened here. Storage may be refused
// (private windows); then nothing is remembered and everything still works.

const prefix = 'sotto.';
const hostsKept = 20;

function read(key: string): string | null {
  try {
    return localStorage.getItem(prefix + key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    if (value === '') localStorage.removeItem(prefix + key);
    else localStorage.setItem(prefix + key, value);
  } catch {
    // Refused storage is a choice of the person, not an error.
  }
}

export type Preference = 'name' | 'language' | 'microphone' | 'camera' | 'speaker';

export function preference(key: Preference): string {
  return read(key) ?? '';
}

export function remember(key: Preference, value: string): void {
  write(key, value);
}

type Hosts = [room: string, token: string][];

function hosts(): Hosts {
  try {
    const list: unknown = JSON.parse(read('hosts') ?? '[]');
    return Array.isArray(list) ? (list as Hosts).filter((h) => Array.isArray(h) && h.length === 2) : [];
  } catch {
    return [];
  }
}

/** The right to host a meeting stays with the browser that opened it. */
export function rememberHost(room: string, token: string): void {
  write('hosts', JSON.stringify([[room, token], ...hosts().filter(([r]) => r !== room)].slice(0, hostsKept)));
}

/** A token that the server refuses is of no use any more. */
export function forgetHost(room: string): void {
  write('hosts', JSON.stringify(hosts().filter(([r]) => r !== room)));
}

export function hostToken(room: string): string | undefined {
  return hosts().find(([r]) => r === room)?.[1];
}
