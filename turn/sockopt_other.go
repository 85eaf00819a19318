//go:build !linux

package turn

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
)

// dontFragments is false: the attribute is answered with 420.
const dontFragments = false

func dontFragment(io.Closer, netip.Addr, bool) {}

func buffers(c *net.UDPConn, size int) {
	_ = c.SetReadBuffer(size) // as much as the system gives
	_ = c.SetWriteBuffer(size)
}

func share(string, string, syscall.RawConn) error {
	return errors.New("turn: no TCP allocations on this system")
}
