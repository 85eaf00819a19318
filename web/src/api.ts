// The HTTP calls of the client: open a meeting, get a join token, get one to
// watch. Those of WHEP are in whep.ts.

import type { HTTPError, Meeting, MeetingRequest, TokenReply, TokenRequest, WatchReply, WatchRequest } from './wire';

/** A failure with a stable code that the message table knows. */
export class Failure extends Error {
  readonly code: string;
  readonly retryAfterMs: number;

  constructor(code: string, message = '', retryAfterMs = 0) {
    super(message || code);
    this.name = 'Failure';
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

export function failureOf(e: unknown): Failure {
  return e instanceof Failure ? e : new Failure('internal', String(e));
}

const timeoutMs = 10_000;

async function post<T>(path: string, body: object, bearer?: string): Promise<T> {
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  if (bearer) headers['Authorization'] = `Bearer ${bearer}`;
  let response: Response;
  try {
    response = await fetch(path, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      credentials: 'omit',
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch (e) {
    throw new Failure('network', String(e));
  }
  const text = await response.text().catch(() => '');
  let parsed: unknown = null;
  try {
    parsed = JSON.parse(text);
  } catch {
    // A proxy's page instead of JSON: the status has to do.
  }
  if (response.ok && parsed !== null) return parsed as T;
  const error = (parsed as Partial<HTTPError> | null)?.error;
  if (error?.code) throw new Failure(error.code, error.message, error.retryAfterMs ?? 0);
  if (response.status === 401) throw new Failure('unauthorized');
  if (response.status === 403) throw new Failure('forbidden');
  if (response.status === 404) throw new Failure('not_found');
  if (response.status === 429) throw new Failure('rate_limited');
  // Nothing sensible behind the listener yet or any more: the same as no network.
  throw new Failure(response.status >= 502 ? 'network' : 'internal', `status ${response.status}`);
}

export function openMeeting(ownerToken?: string): Promise<Meeting> {
  const request: MeetingRequest = {};
  return post<Meeting>('/api/v1/meetings', request, ownerToken);
}

export function joinToken(room: string, name: string, hostToken?: string): Promise<TokenReply> {
  const request: TokenRequest = hostToken ? { name, hostToken } : { name };
  return post<TokenReply>(`/api/v1/meetings/${encodeURIComponent(room)}/token`, request);
}

export function watchToken(room: string, hostToken: string): Promise<WatchReply> {
  const request: WatchRequest = { hostToken };
  return post<WatchReply>(`/api/v1/meetings/${encodeURIComponent(room)}/watch-token`, request);
}
