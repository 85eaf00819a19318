package udp

import "golang.org/x/sys/unix"

// Steer makes the kernel give datagrams of those peers to those of the sockets of s's group, and others by a hash of their source, as
// without it. It replaces what was asked for before. It returns how many peers it could take. It may be called from any goroutine
// before the socket is closed.
func (s *Socket) Steer(rows []Steered) (int, error) {
	program, taken := steerProgram(rows, s.group, s.features.Aside)
	filter := make([]unix.SockFilter, len(program))
	for i, x := range program {
		filter[i] = unix.SockFilter{Code: x.code, Jt: x.jt, Jf: x.jf, K: x.k}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog); err != nil {
		return 0, &listenError{"steer to", s.local, err}
	}
	return taken, nil
}
