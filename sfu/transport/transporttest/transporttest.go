// Package transporttest is the other side of a transport for tests that need no socket: a client that does ICE with the real
// codec, keys of a handshake that never was, and a Handshaker that only takes notes. It is for tests only.
//
// Time and network are the test's: an Agent is given datagrams and returns datagrams.
package transporttest

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/perc/srtp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Seeded is a deterministic source of randomness.
type Seeded struct{ *rand.ChaCha8 }

// NewSeeded returns the source number n.
func NewSeeded(n byte) Seeded { return Seeded{rand.NewChaCha8([32]byte{n})} }

// Secret is the key that all nodes of a test share.
var Secret = []byte("0123456789abcdef0123456789abcdef")

// UfragKey returns Secret as a key.
func UfragKey(t testing.TB) transport.UfragKey {
	t.Helper()
	k, err := transport.NewUfragKey(Secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ClientHello is a datagram that begins a handshake.
var ClientHello = []byte{
	22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12,
	1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
}

// Exchange makes the keys of a handshake that never was, from a seed: those of the server, and the contexts of the client.
func Exchange(t testing.TB, p srtp.Profile, seed byte) (server transport.Keys, send, recv *srtp.Context) {
	t.Helper()
	material := make([]byte, p.ExporterLen())
	_, _ = NewSeeded(seed).Read(material)
	clientKeys, serverKeys, err := srtp.SplitExported(p, material)
	if err != nil {
		t.Fatal(err)
	}
	if send, err = srtp.New(clientKeys, srtp.Sender); err != nil {
		t.Fatal(err)
	}
	if recv, err = srtp.New(serverKeys, srtp.Receiver); err != nil {
		t.Fatal(err)
	}
	return transport.Keys{Local: serverKeys, Remote: clientKeys}, send, recv
}

// Shaker is a Handshaker that only notes what it is asked.
type Shaker struct {
	Full      bool // refuses
	Started   []transport.SessionID
	Delivered [][]byte
	Ended     []transport.SessionID
}

// Start implements transport.Handshaker.
func (h *Shaker) Start(id transport.SessionID, _ transport.Fingerprint) bool {
	if h.Full {
		return false
	}
	h.Started = append(h.Started, id)
	return true
}

// Deliver implements transport.Handshaker.
func (h *Shaker) Deliver(_ transport.SessionID, b []byte) {
	h.Delivered = append(h.Delivered, slices.Clone(b))
}

// End implements transport.Handshaker.
func (h *Shaker) End(id transport.SessionID) { h.Ended = append(h.Ended, id) }

// Check is what an Agent saw of one of the server's Binding requests.
type Check struct {
	At           int64
	Tx           stun.TxID
	UseCandidate bool
	Nomination   uint32
	Username     string
	TieBreaker   uint64
}

// Response is what an Agent saw of an answer to one of its own.
type Response struct {
	Type stun.Type
	Tx   stun.TxID
	Code int
	Addr netip.AddrPort
	OK   bool // integrity
	Raw  []byte
}

// Agent is the ICE agent of a client: controlled, with one address.
type Agent struct {
	Addr       netip.AddrPort
	Ufrag, Pwd string
	Key        *stun.Key
	Server     transport.LocalParams
	ServerKey  *stun.Key
	ServerAddr netip.AddrPort // as the client sees it
	Priority   uint32
	Deaf       bool // answers nothing
	Refuse     int  // answers with that code

	Checks    []Check
	Responses []Response
	Other     [][]byte // datagrams that are not STUN

	t   testing.TB
	txs byte
}

// NewAgent makes a client at addr that knows the server's credentials.
func NewAgent(t testing.TB, addr, serverAddr netip.AddrPort, server transport.LocalParams) Agent {
	a := Agent{
		Addr: addr, ServerAddr: serverAddr, Ufrag: "clnt", Pwd: "clientpassword22charsX", Priority: 1845494271, t: t,
	}
	a.Key = stun.NewKey(a.Pwd)
	a.Learn(server)
	return a
}

// Learn takes the credentials of a new offer.
func (a *Agent) Learn(server transport.LocalParams) {
	a.Server, a.ServerKey = server, stun.NewKey(server.Pwd)
}

// Remote is what the client's answer carries.
func (a *Agent) Remote() transport.RemoteParams {
	return transport.RemoteParams{Ufrag: a.Ufrag, Pwd: a.Pwd, Fingerprint: transport.FingerprintOf([]byte("certificate"))}
}

// Request makes a Binding request; change may add to it before it is closed.
func (a *Agent) Request(change ...func(*stun.Builder)) []byte {
	a.txs++
	b := stun.Append(nil, stun.BindingRequest, stun.TxID{byte(a.Addr.Port()), byte(a.Addr.Port() >> 8), a.txs})
	b.Username(a.Server.Ufrag + ":" + a.Ufrag)
	b.Priority(a.Priority)
	b.ICEControlled(7)
	for _, f := range change {
		f(&b)
	}
	return b.End(a.ServerKey, true)
}

// Receive takes a datagram of the server's and returns the client's replies.
func (a *Agent) Receive(b []byte, now int64) (replies [][]byte) {
	if udp.Classify(b) != udp.KindSTUN {
		a.Other = append(a.Other, slices.Clone(b))
		return nil
	}
	var m stun.Message
	if err := m.Parse(b); err != nil {
		a.t.Errorf("server sent malformed STUN: %v", err)
		return nil
	}
	if m.Type != stun.BindingRequest {
		r := Response{Type: m.Type, Tx: m.Tx, OK: m.CheckIntegrity(a.ServerKey), Raw: slices.Clone(b)}
		r.Code, _ = m.ErrorCode()
		r.Addr, _ = m.XORMappedAddress()
		a.Responses = append(a.Responses, r)
		return nil
	}
	k := Check{At: now, Tx: m.Tx, UseCandidate: m.UseCandidate()}
	k.Nomination, _ = m.Nomination()
	k.TieBreaker, _ = m.ICEControlling()
	u, _ := m.Username()
	k.Username = string(u)
	if !m.CheckIntegrity(a.Key) {
		a.t.Errorf("check with wrong integrity for %q", u)
	}
	a.Checks = append(a.Checks, k)
	if a.Deaf {
		return nil
	}
	return [][]byte{a.Answer(m.Tx, a.Key)}
}

// Answer makes the answer to a Binding request of the server's.
func (a *Agent) Answer(tx stun.TxID, k *stun.Key) []byte {
	if a.Refuse != 0 {
		b := stun.Append(nil, stun.BindingError, tx)
		b.ErrorCode(a.Refuse, "no")
		return b.End(k, true)
	}
	b := stun.Append(nil, stun.BindingSuccess, tx)
	b.XORMappedAddress(a.ServerAddr)
	return b.End(k, true)
}

// LastCheck returns the last of Checks.
func (a *Agent) LastCheck() Check {
	if len(a.Checks) == 0 {
		return Check{}
	}
	return a.Checks[len(a.Checks)-1]
}

// LastResponse returns the last of Responses.
func (a *Agent) LastResponse() Response {
	if len(a.Responses) == 0 {
		return Response{}
	}
	return a.Responses[len(a.Responses)-1]
}

// Media is the client's side of SRTP.
type Media struct {
	Send, Recv *srtp.Context
}

// ExchangeGCM is Exchange under the profile that browsers take.
func ExchangeGCM(t testing.TB, seed byte) (server transport.Keys, client Media) {
	t.Helper()
	keys, send, recv := Exchange(t, srtp.AEADAES128GCM, seed)
	return keys, Media{send, recv}
}
