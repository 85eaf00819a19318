package sfu

import (
	"context"
	"reflect"

	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/sfu/data"
	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/transport"
)

// Stats is a snapshot of a Node: of all shards together, and what tells them apart.
type Stats struct {
	Conferences, Endpoints int
	Forward                forward.Counters
	Transport              transport.Counters
	Socket                 udp.Stats
	Data                   data.Stats
	BuffersInUse           int
	Placement              Placement
	Steered                int // addresses whose datagrams the kernel brings to their shard
	Shards                 []ShardStats
}

// ShardStats are the figures of one shard.
type ShardStats struct {
	Sessions            int
	DatagramsIn         uint64 // at its socket
	DatagramsOut        uint64
	DatagramsForOthers  uint64 // of those in, for sessions of other shards
	PacketsOut          uint64 // of media
	PacketsMirrored     uint64 // that came from publishers on other shards
	LinkDrops           uint64 // of what it had for other shards, for want of room
	BesideDrops         uint64 // of what came and went by other ways than the socket, for want of room
	BusyNanoseconds     uint64 // time that its thread was not waiting …
	LifetimeNanoseconds uint64 // … of so much
}

// Stats returns the figures of now.
func (n *Node) Stats(ctx context.Context) (Stats, error) {
	st := Stats{Data: n.data.Stats()}
	for _, s := range n.shards {
		sock := s.sock.Stats()
		x := ShardStats{DatagramsIn: sock.ReceivedDatagrams, DatagramsOut: sock.SentDatagrams, BesideDrops: s.besideDrops()}
		err := s.do(ctx, func(now int64) error {
			add(&st.Forward, s.router.Counters)
			add(&st.Transport, s.mux.Counters())
			st.BuffersInUse += s.pool.InUse()
			x.PacketsOut, x.PacketsMirrored = s.router.Counters.PacketsOut, s.router.Counters.Mirrored
			x.DatagramsForOthers = s.mux.Counters().Passed
			for _, l := range s.out {
				if l != nil {
					x.LinkDrops += l.Counters.Dropped
				}
			}
			x.BusyNanoseconds, x.LifetimeNanoseconds = uint64(s.busy(now)), uint64(now-s.born)
			return nil
		})
		if err != nil {
			return st, err
		}
		add(&st.Socket, sock)
		st.Shards = append(st.Shards, x)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st.Conferences, st.Endpoints, st.Placement = len(n.conferences), n.sessions, n.placement
	st.Steered = int(n.steered.Load())
	for i, l := range n.loads {
		st.Shards[i].Sessions = l.sessions
	}
	return st, nil
}

// add adds counters, field by field: every one is a uint64.
func add[T any](to *T, more T) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(more)
	for i := range dst.NumField() {
		dst.Field(i).SetUint(dst.Field(i).Uint() + src.Field(i).Uint())
	}
}
