package turn

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/turn/auth"
)

// inner is the credential of the server towards the library: a key of its own, and the nonces that the library wants beside it. It
// is a socket over which the server asks for those as any client does.
type inner struct {
	key    auth.Key
	secret []byte // what the library checks with

	asking sync.Mutex // one at a time
	asked  chan stun.TxID
	told   chan []byte
	closed chan struct{}
	once   sync.Once

	current []byte
	at      time.Time
}

// innerLife is how long a nonce of the library's is used: half of what it is good for.
const innerLife = 30 * time.Minute

func newInner() *inner {
	in := &inner{asked: make(chan stun.TxID), told: make(chan []byte, 1), closed: make(chan struct{})}
	in.key, in.secret = auth.InnerKey()
	return in
}

// nonce returns one that is good; nil when the library has ended.
func (in *inner) nonce() []byte {
	in.asking.Lock()
	defer in.asking.Unlock()
	if in.current != nil && time.Since(in.at) < innerLife {
		return in.current
	}
	select {
	case in.asked <- stun.TxID{1}:
	case <-in.closed:
		return nil
	}
	select {
	case n := <-in.told:
		in.current, in.at = n, time.Now()
		return n
	case <-in.closed:
		return nil
	}
}

// ReadFrom implements net.PacketConn for the library: requests without credentials.
func (in *inner) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case tx := <-in.asked:
		return copy(b, newMessage(stun.NewType(methodAllocate, stun.ClassRequest), tx)), nowhere, nil
	case <-in.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn for the library: the answers.
func (in *inner) WriteTo(b []byte, _ net.Addr) (int, error) {
	var m stun.Message
	if m.Parse(b) == nil {
		if nonce, ok := m.Attr(stun.AttrNonce); ok {
			select {
			case in.told <- slices.Clone(nonce):
			default:
			}
		}
	}
	return len(b), nil
}

var nowhere = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))

// LocalAddr implements net.PacketConn.
func (in *inner) LocalAddr() net.Addr { return nowhere }

// Close implements net.PacketConn.
func (in *inner) Close() error {
	in.once.Do(func() { close(in.closed) })
	return nil
}

// SetDeadline implements net.PacketConn; nobody sets one.
func (in *inner) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn; nobody sets one.
func (in *inner) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn; nobody sets one.
func (in *inner) SetWriteDeadline(time.Time) error { return nil }
