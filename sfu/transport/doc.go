// Package transport is the media transport of one shard: ICE, the hand-over of
// DTLS datagrams, and the SRTP leg of every session, over one UDP socket.
//
// It owns the table of sessions (by id and by remote address), their ICE
// credentials and paths, their SRTP contexts and their timers. A session is
// plain state: Session.Checkpoint turns all of it into bytes and Mux.Restore
// turns the bytes back into a session, in this process or in another.
//
// It promises:
//   - The server is a full ICE agent, always controlling (RFC 8445 §6.1.1), and
//     never uses the candidates of a client. Nothing leaves for an address from
//     which no authenticated Binding request has come. The one exception is the
//     plain answer to a Binding request without USERNAME, which is rate-limited.
//   - Media leaves only by the nominated path, and only as long as the peer
//     consents (RFC 7675).
//   - The RTP path, in and out, allocates nothing; there is no lock, no
//     goroutine, no clock reading and no log line in this package. Time is
//     handed in as monotonic nanoseconds; what happened is counted.
//   - A restored session never uses an SRTP index that the first owner may
//     still use, as long as the first owner keeps to the lease it was granted.
//
// It does not run handshakes (package handshake does, off the packet thread),
// does not know what an RTP stream means (sfu/forward does), reads no SDP, and
// opens no socket. Everything here belongs to one goroutine; nothing is safe for
// concurrent use unless its comment says so.
package transport
