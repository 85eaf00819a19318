package sfu_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/stun"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/sfu/transport/transporttest"
)

// Who is about to find a way is answered at once, whichever socket the kernel chose: on that of a shard that has nobody, what can wait
// would wait for up to 50 ms. Half of these come to the wrong one. A busy machine has three tries.
func TestChecksDoNotWaitAtTheWrongShard(t *testing.T) {
	f := start(t, func(c *sfu.Config) { c.Shards, c.Together = 2, 100 })
	const limit = 20 * time.Millisecond
	var waits []time.Duration
	for try := range 3 {
		waits = waits[:0]
		var seekers []seeker
		for i := range 24 {
			seekers = append(seekers, f.seeker(t, sfu.ParticipantID(fmt.Sprintf("p%d-%d", try, i))))
		}
		for _, s := range seekers {
			waits = append(waits, s.wait(t))
		}
		slices.Sort(waits)
		if waits[len(waits)*3/4] < limit {
			return
		}
	}
	t.Errorf("a quarter waited longer than %v: %v", limit, waits)
}

// seeker is somebody who has answered, and whose address nobody has seen.
type seeker struct {
	*socket
	agent transporttest.Agent
}

func (f *fixture) seeker(t *testing.T, id sfu.ParticipantID) seeker {
	t.Helper()
	ice := f.join(id).answer(1).ICE
	s := dial(t, "127.0.0.1", f.node.LocalAddr())
	return seeker{s, transporttest.NewAgent(t, s.addr, s.to, transport.LocalParams{Ufrag: ice.Ufrag, Pwd: ice.Pwd})}
}

// wait returns how long the first check waits for its answer.
func (s *seeker) wait(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	s.send(s.agent.Request())
	for {
		var msg stun.Message
		if err := msg.Parse(s.receive(t)); err == nil && msg.Type == stun.BindingSuccess {
			return time.Since(began)
		}
	}
}
