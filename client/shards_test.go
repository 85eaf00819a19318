package client_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sotto-edge/sotto/client"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// A conference over several shards: two publishers on different ones, many receivers. Every receiver gets every packet from its first
// one on, once and in order, whichever shard it and the publisher are on; and the shards share the work.
func TestConferenceOverShards(t *testing.T) {
	if *shards < 2 {
		t.Skip("there is one shard")
	}
	t.Run("steered", func(t *testing.T) { overShards(t, nil) })
	t.Run("by hash", func(t *testing.T) { overShards(t, sfu.NoSteering{}) })
}

func overShards(t *testing.T, steering sfu.Steering) {
	receivers, packets := 40, 200
	if testing.Short() {
		receivers, packets = 12, 100
	}
	m := newServer(t, nil, func(cfg *sfu.Config) { cfg.Steering = steering }).open(t)
	publishers := []*member{m.join("Ann", publish(camera, microphone)), m.join("Eve", publish(camera))}
	var all []*member
	for i := range receivers {
		all = append(all, m.join(fmt.Sprint("Receiver ", i), auto))
	}
	for _, p := range publishers {
		talk(t, p.Local(wire.Camera), nil)
	}
	talk(t, publishers[0].Local(wire.Microphone), nil)
	// All streams first: from then on every packet is meant for everybody.
	streams := make(map[*client.Stream]uint32)
	for _, r := range all {
		for range 2 {
			streams[r.stream(wire.Camera)] = videoClock
		}
		streams[r.stream(wire.Microphone)] = audioClock
	}
	if steering == nil {
		eventually(t, "every address with its shard", func() bool { return m.stats().Steered >= receivers+len(publishers) })
	}
	before := m.stats()
	var work sync.WaitGroup
	failed := make(chan string, len(streams))
	for s, clock := range streams {
		work.Go(func() {
			if err := unbroken(s, packets, clock); err != nil {
				failed <- fmt.Sprintf("%s of %s: %v", s.Track.Source, s.Participant, err)
			}
		})
	}
	work.Wait()
	close(failed)
	for f := range failed {
		t.Error(f)
	}
	after := m.stats()
	var out, mirrored, passed, drops uint64
	least, most := ^uint64(0), uint64(0)
	for i, s := range after.Shards {
		was := before.Shards[i]
		n := s.PacketsOut - was.PacketsOut
		out += n
		least, most = min(least, n), max(most, n)
		mirrored += s.PacketsMirrored - was.PacketsMirrored
		passed += s.DatagramsForOthers - was.DatagramsForOthers
		drops += s.LinkDrops
		t.Logf("shard %d: %d sessions, %d packets out, %d mirrored", i, s.Sessions, n, s.PacketsMirrored-was.PacketsMirrored)
	}
	if mean := float64(out) / float64(len(after.Shards)); float64(most-least) > mean/5 {
		t.Errorf("shards sent from %d to %d packets", least, most)
	}
	if few := uint64(receivers); mirrored == 0 || drops != 0 || (passed < few) != (steering == nil) {
		t.Errorf("%d packets mirrored, %d datagrams handed on, %d dropped", mirrored, passed, drops)
	}
	if after.Forward.SendErrors != 0 || after.Forward.Late != 0 {
		t.Errorf("%+v", after.Forward)
	}
}

// unbroken reads until the n numbers from the first on are there. What the receiver's own socket had no room for comes again, out of
// its turn; everything else comes in order, and all of it once.
func unbroken(s *client.Stream, n int, clock uint32) error {
	var first client.Packet
	var begin, before uint32
	seen := make(map[uint32]bool)
	for want := 0; want < n; {
		p, ok := <-s.Packets()
		if !ok {
			return fmt.Errorf("ends after %d packets", len(seen))
		}
		now, _, ok := number(p)
		if !ok {
			return fmt.Errorf("packet %d is not of a talker", p.SequenceNumber)
		}
		if first.Packet == nil {
			first, begin, before = p, now, now-1
		}
		switch {
		case seen[now-begin]:
			return fmt.Errorf("number %d comes twice", now)
		case p.SequenceNumber != first.SequenceNumber+uint16(now-begin), p.Timestamp != first.Timestamp+(now-begin)*clock:
			return fmt.Errorf("number %d has sequence number %d and timestamp %d, the first, %d, had %d and %d",
				now, p.SequenceNumber, p.Timestamp, begin, first.SequenceNumber, first.Timestamp)
		case !p.Repaired && int32(now-before) <= 0:
			return fmt.Errorf("number %d comes after %d", now, before)
		case !p.Repaired:
			before = now
		}
		for seen[now-begin] = true; seen[uint32(want)]; want++ {
		}
	}
	return nil
}
