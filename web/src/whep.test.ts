import { expect, test } from 'vitest';
import { credentials, merge, serversOf } from './whep';

test('ICE servers are read from Link headers', () => {
  expect(serversOf('')).toEqual([]);
  expect(serversOf(
    '<stun:198.18.0.1>; rel="ice-server", </next>; rel="next", ' +
    '<turn:198.18.0.1?transport=tcp>; rel="ice-server"; username="a\\"b, <c>"; credential="\\\\d"; credential-type="password"',
  )).toEqual([
    { urls: 'stun:198.18.0.1' },
    { urls: 'turn:198.18.0.1?transport=tcp', username: 'a"b, <c>', credential: '\\d' },
  ]);
});

test('a restart takes the credentials of the offer and puts those of the server into the answer', () => {
  const offer = 'v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:ab+/\r\na=ice-pwd:cd\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:ab+/\r\na=ice-pwd:cd\r\n';
  expect(credentials(offer)).toBe('a=ice-ufrag:ab+/\r\na=ice-pwd:cd\r\n');
  const answer = 'v=0\r\nm=video 9 x 96\r\na=ice-ufrag:1\r\na=ice-pwd:2\r\na=candidate:1 1 udp 1 198.18.0.1 1 typ host\r\na=end-of-candidates\r\nm=audio 9 x 111\r\na=ice-ufrag:1\r\na=ice-pwd:2\r\n';
  const fragment = 'm=video 9 x 0\r\na=mid:0\r\na=ice-ufrag:3\r\na=ice-pwd:4\r\na=candidate:1 1 udp 1 198.18.0.2 1 typ host\r\na=end-of-candidates\r\n';
  const merged = 'v=0\r\nm=video 9 x 96\r\na=ice-ufrag:3\r\na=ice-pwd:4\r\na=candidate:1 1 udp 1 198.18.0.2 1 typ host\r\na=end-of-candidates\r\nm=audio 9 x 111\r\na=ice-ufrag:3\r\na=ice-pwd:4\r\n';
  expect(merge(answer, fragment)).toBe(merged);
  expect(merge(merged, fragment)).toBe(merged);
});
