//go:build !linux

package udp

// Socket is a UDP socket. It belongs to one thread; Wake, Post, Stats, Features and LocalAddr
// may be called from any.
type Socket struct{ *portable }

// Listen opens a socket.
func Listen(cfg Config) (*Socket, error) {
	p, err := listenPortable(cfg)
	if err != nil {
		return nil, err
	}
	return &Socket{p}, nil
}

// ListenGroup opens one socket, whatever n: the system does not spread what comes over several.
func ListenGroup(cfg Config, _ int) ([]*Socket, error) {
	s, err := Listen(cfg)
	if err != nil {
		return nil, err
	}
	return []*Socket{s}, nil
}
