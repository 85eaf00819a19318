package shardtest

import (
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/transport/v4/packetio"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Peer is a client: controlled, with one socket. DTLS goes over Conn, SRTP comes out of
// Media.
type Peer struct {
	Media chan []byte // SRTP and SRTCP from the server

	sock       *net.UDPConn
	server     netip.AddrPort
	local      transport.LocalParams // of the server
	ufrag, pwd string
	dtls       *packetio.Buffer
	done       sync.WaitGroup

	// Drop, if set before Start, says which DTLS datagrams of the server get lost.
	Drop func(datagram []byte) bool
}

// NewPeer makes a client of a session at that address.
func NewPeer(t testing.TB, server netip.AddrPort, local transport.LocalParams) *Peer {
	t.Helper()
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &Peer{
		Media: make(chan []byte, 1024), sock: sock, server: server, local: local,
		ufrag: rand.Text()[:8], pwd: rand.Text()[:24], dtls: packetio.NewBuffer(),
	}
	t.Cleanup(p.Close)
	return p
}

// Params are what the client's answer would carry.
func (p *Peer) Params(fp transport.Fingerprint) transport.RemoteParams {
	return transport.RemoteParams{Ufrag: p.ufrag, Pwd: p.pwd, Fingerprint: fp}
}

// Start serves the socket and sends the first check.
func (p *Peer) Start() {
	p.done.Add(1)
	go p.run()
	p.Check()
}

// Check sends a Binding request.
func (p *Peer) Check() {
	var tx stun.TxID
	_, _ = rand.Read(tx[:])
	b := stun.Append(nil, stun.BindingRequest, tx)
	b.Username(p.local.Ufrag + ":" + p.ufrag)
	b.Priority(1845494271)
	b.ICEControlled(1)
	p.Send(b.End(stun.NewKey(p.local.Pwd), true))
}

// Send sends a datagram to the server.
func (p *Peer) Send(b []byte) {
	_, _ = p.sock.WriteToUDPAddrPort(b, p.server)
}

// Close ends the client without a word.
func (p *Peer) Close() {
	_ = p.sock.Close()
	_ = p.dtls.Close()
	p.done.Wait()
}

func (p *Peer) run() {
	defer p.done.Done()
	key := stun.NewKey(p.pwd)
	buf := make([]byte, 2048)
	for {
		n, from, err := p.sock.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		switch udp.Classify(b) {
		case udp.KindSTUN:
			var m stun.Message
			if m.Parse(b) != nil || m.Type != stun.BindingRequest || !m.CheckIntegrity(key) {
				continue
			}
			r := stun.Append(nil, stun.BindingSuccess, m.Tx)
			r.XORMappedAddress(from)
			p.Send(r.End(key, true))
		case udp.KindDTLS:
			if p.Drop == nil || !p.Drop(b) {
				_, _ = p.dtls.Write(b)
			}
		case udp.KindRTP:
			select {
			case p.Media <- append([]byte(nil), b...):
			default:
			}
		}
	}
}

// Conn is the client's side of DTLS.
func (p *Peer) Conn() net.PacketConn { return (*peerConn)(p) }

type peerConn Peer

func (c *peerConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.dtls.Read(b)
	return n, c.Server(), err
}

func (c *peerConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	return c.sock.WriteToUDPAddrPort(b, c.server)
}

// Server is the address that a DTLS client wants to know.
func (c *peerConn) Server() net.Addr { return net.UDPAddrFromAddrPort(c.server) }

func (c *peerConn) Close() error                       { return c.dtls.Close() }
func (c *peerConn) LocalAddr() net.Addr                { return c.sock.LocalAddr() }
func (c *peerConn) SetDeadline(t time.Time) error      { return c.dtls.SetReadDeadline(t) }
func (c *peerConn) SetReadDeadline(t time.Time) error  { return c.dtls.SetReadDeadline(t) }
func (c *peerConn) SetWriteDeadline(_ time.Time) error { return nil }
