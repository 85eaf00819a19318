package sfu

import (
	"context"
	"reflect"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Stats is a snapshot of a Node.
type Stats struct {
	Conferences, Endpoints int
	Forward                forward.Counters
	Transport              transport.Counters
	Socket                 udp.Stats
	BuffersInUse           int
}

// Stats returns the figures of now, of all shards together.
func (n *Node) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	for _, s := range n.shards {
		err := s.do(ctx, func(int64) error {
			add(&st.Forward, s.router.Counters)
			add(&st.Transport, s.mux.Counters())
			st.BuffersInUse += s.pool.InUse()
			return nil
		})
		if err != nil {
			return st, err
		}
		add(&st.Socket, s.sock.Stats())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st.Conferences, st.Endpoints = len(n.conferences), n.sessions
	return st, nil
}

// add adds counters, field by field: every one is a uint64.
func add[T any](to *T, more T) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(more)
	for i := range dst.NumField() {
		dst.Field(i).SetUint(dst.Field(i).Uint() + src.Field(i).Uint())
	}
}
