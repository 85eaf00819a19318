// Where the address bar says we are, and the query options of a meeting link.

export interface Route {
  room: string; // '' on the start page
  watch: boolean; // its broadcast, without a seat
  options: Options;
}

export interface Options {
  name: string;
  codec: string; // preferred video codec
  autojoin: boolean; // no preview page: for tests and kiosks
  microphone: boolean;
  camera: boolean;
  language: string | null;
}

const roomPattern = /^[a-z0-9][a-z0-9-]{2,63}$/;

export function parseRoute(url: URL): Route {
  const query = url.searchParams;
  const match = /^\/(m|watch)\/([^/]+)\/?$/.exec(url.pathname);
  return {
    room: (match?.[2] ?? '').toLowerCase(),
    watch: match?.[1] === 'watch',
    options: {
      name: (query.get('name') ?? '').slice(0, 64),
      codec: (query.get('codec') ?? '').toLowerCase(),
      autojoin: query.get('autojoin') === '1',
      microphone: query.get('microphone') !== 'off',
      camera: query.get('camera') !== 'off',
      language: query.get('lang'),
    },
  };
}

/** The room that a pasted link or code names, or '' if it names none. */
export function roomOf(input: string): string {
  const text = input.trim();
  const path = /\/m\/([^/?#\s]+)/.exec(text);
  const room = (path?.[1] ?? text).toLowerCase();
  return roomPattern.test(room) ? room : '';
}

export function linkOf(room: string): string {
  return `${location.origin}/m/${room}`;
}

/** The page that plays the room's broadcast. The token is where no server gets to see it in an address. */
export function watchLinkOf(room: string, token: string): string {
  return `${location.origin}/watch/${room}#${encodeURIComponent(token)}`;
}
