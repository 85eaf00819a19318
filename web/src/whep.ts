// One WHEP session (draft-ietf-wish-whep): the offer that opens it, the restart
// of its ICE, its end. The browser offers here, as WHEP wants it; the answer
// may come with STUN and TURN servers, so candidates are gathered after it.
// Does not know when to restart or to start over.

import { Failure } from './api';
import { trace } from './trace';
import type { HTTPError } from './wire';

/** Voices that can be heard at a time: the server mixes nothing. */
export const voices = 4;

const timeoutMs = 10_000;
const typeOffer = 'application/sdp';
const typeFragment = 'application/trickle-ice-sdpfrag';

export interface WhepHooks {
  iceState(state: RTCIceConnectionState): void;
  /** The server has said goodbye. */
  closed(): void;
}

export class Whep {
  readonly pc: RTCPeerConnection;
  private readonly token: string;
  private url = ''; // of the session
  private answer = '';

  constructor(token: string, hooks: WhepHooks) {
    this.token = token;
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.pc.addTransceiver('video', { direction: 'recvonly' });
    for (let i = 0; i < voices; i++) this.pc.addTransceiver('audio', { direction: 'recvonly' });
    this.pc.oniceconnectionstatechange = () => {
      trace('ice', this.pc.iceConnectionState);
      hooks.iceState(this.pc.iceConnectionState);
    };
    this.pc.onconnectionstatechange = () => {
      trace('connection', this.pc.connectionState);
      const dtls = this.pc.getReceivers()[0]?.transport;
      if (!dtls || dtls.onstatechange) return;
      dtls.onstatechange = () => {
        trace('dtls', dtls.state);
        if (dtls.state === 'closed' || dtls.state === 'failed') hooks.closed();
      };
    };
  }

  /** Makes the session. */
  async open(endpoint: string): Promise<void> {
    const offer = await this.pc.createOffer();
    const response = await this.ask('POST', endpoint, offer.sdp, typeOffer);
    this.answer = await response.text();
    this.url = new URL(response.headers.get('Location') ?? '', new URL(endpoint, location.href)).href;
    if (this.pc.signalingState === 'closed') { // left meanwhile
      this.end();
      return;
    }
    const iceServers = serversOf(response.headers.get('Link') ?? '');
    if (iceServers.length > 0) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    await this.pc.setLocalDescription(offer);
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.answer });
  }

  /** New ICE credentials on both sides (RFC 9725 §4.3.2): the media goes on by whatever path there is now. */
  async restart(): Promise<void> {
    const offer = await this.pc.createOffer({ iceRestart: true });
    const response = await this.ask('PATCH', this.url, credentials(offer.sdp ?? ''), typeFragment, { 'If-Match': '*' });
    const fragment = await response.text();
    if (this.pc.signalingState === 'closed') return;
    await this.pc.setLocalDescription(offer);
    this.answer = merge(this.answer, fragment);
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.answer });
  }

  /** Ends the session, for good; also while the page goes away. */
  end(): void {
    this.pc.oniceconnectionstatechange = null;
    this.pc.onconnectionstatechange = null;
    const dtls = this.pc.getReceivers()[0]?.transport;
    if (dtls) dtls.onstatechange = null;
    this.pc.close();
    if (!this.url) return;
    const url = this.url;
    this.url = '';
    fetch(url, { method: 'DELETE', headers: this.headers({}), credentials: 'omit', keepalive: true }).catch(() => undefined);
  }

  private headers(more: Record<string, string>): Record<string, string> {
    return this.token ? { ...more, Authorization: `Bearer ${this.token}` } : more;
  }

  private async ask(method: string, url: string, body: string | undefined, type: string, more: Record<string, string> = {}): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(url, {
        method, body: body ?? '', credentials: 'omit', headers: this.headers({ 'Content-Type': type, ...more }), signal: AbortSignal.timeout(timeoutMs),
      });
    } catch (e) {
      throw new Failure('network', String(e));
    }
    if (response.ok) return response;
    const problem = (await response.json().catch(() => null)) as Partial<HTTPError['error']> | null;
    const wait = Number(response.headers.get('Retry-After') ?? 0) * 1000;
    throw new Failure(problem?.code ?? (response.status >= 502 ? 'network' : 'internal'), `status ${response.status}`, wait || 0);
  }
}

/** The ICE credentials of a description, as a fragment. */
export function credentials(sdp: string): string {
  const line = (name: string) => `${new RegExp(`^a=${name}:\\S+`, 'm').exec(sdp)?.[0] ?? ''}\r\n`;
  return line('ice-ufrag') + line('ice-pwd');
}

/** The answer with the credentials and candidates of a fragment in place of its own. */
export function merge(answer: string, fragment: string): string {
  const news = (name: string) => new RegExp(`^a=${name}:\\S+`, 'm').exec(fragment)?.[0];
  const candidates = fragment.split(/\r?\n/).filter((line) => /^a=(candidate|end-of-candidates)/.test(line));
  let first = true;
  return answer.split('\r\n').flatMap((line) => {
    if (line.startsWith('a=candidate') && candidates.length > 0) return [];
    if (line === 'a=end-of-candidates' && candidates.length > 0) {
      if (!first) return [];
      first = false;
      return candidates;
    }
    if (line.startsWith('a=ice-ufrag:')) return [news('ice-ufrag') ?? line];
    if (line.startsWith('a=ice-pwd:')) return [news('ice-pwd') ?? line];
    return [line];
  }).join('\r\n');
}

/** The ICE servers of Link headers (RFC 9725 §4.6), which fetch gives as one. */
export function serversOf(links: string): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const [, url = '', rest = ''] of links.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+="(?:\\.|[^"\\])*")*)/g)) {
    const value = (name: string) => new RegExp(`;\\s*${name}="((?:\\\\.|[^"\\\\])*)"`).exec(rest)?.[1]?.replace(/\\(.)/g, '$1');
    if (value('rel') !== 'ice-server') continue;
    const username = value('username');
    const credential = value('credential');
    servers.push(username !== undefined && credential !== undefined ? { urls: url, username, credential } : { urls: url });
  }
  return servers;
}
