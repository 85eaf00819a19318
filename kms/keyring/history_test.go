package keyring_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/wire"
)

// step is one operation on one user's membership.
type step struct {
	user string
	op   string // in, out, fetch
}

// membership is what a history must be explained by, one operation after the other: a fetch is answered by whether the user is in.
var membership = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		by := map[string][]porcupine.Operation{}
		for _, o := range history {
			u := o.Input.(step).user
			by[u] = append(by[u], o)
		}
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return false },
	Step: func(state, input, output any) (bool, any) {
		switch input.(step).op {
		case "in":
			return true, true
		case "out":
			return true, false
		}
		return state == output, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, output) },
}

// history is what was observed. An operation whose outcome nobody knows may take effect at any time after it began, or never.
type history struct {
	mu    sync.Mutex
	begin time.Time
	all   []porcupine.Operation
	freed int // releases
}

func (h *history) record(client int, in step, call time.Time, out any, known bool) {
	done := int64(math.MaxInt64)
	if known {
		done = time.Since(h.begin).Nanoseconds()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out == true {
		h.freed++
	}
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: in, Call: call.Sub(h.begin).Nanoseconds(), Output: out, Return: done})
}

// run lets clients let users in and out, each for a while, and fetch, until the context ends.
func (h *history) run(ctx context.Context, t *testing.T, r *rig, space wire.Resource, users []string, stay time.Duration) {
	var all sync.WaitGroup
	for c := range users {
		all.Go(func() { // one decides about each user, so that an outcome that is not known is the last of its kind until it is
			name, auth := users[c], wire.URI{}
			pick := rand.New(rand.NewPCG(2, uint64(c)))
			for ctx.Err() == nil {
				if stay > 0 {
					wait := time.NewTimer(time.Duration(pick.Int64N(int64(stay))))
					select {
					case <-wait.C:
					case <-ctx.Done():
						wait.Stop()
					}
				}
				call := time.Now()
				if auth == (wire.URI{}) {
					out, err := r.Authorize(t.Context(), with(user("alice"), wire.NewID().String()), space.URI, []string{name}, wire.Participant)
					if err != nil && status(t, err) != wire.StatusUnavailable {
						t.Error(err)
						return
					}
					h.record(c, step{name, "in"}, call, nil, err == nil)
					if err != nil {
						return // whether it is in is not known, so nobody can remove it
					}
					auth = out[0].URI
					continue
				}
				request := wire.NewID().String()
				_, _, err := r.Deauthorize(t.Context(), with(user("alice"), request), auth)
				for err != nil && ctx.Err() == nil && status(t, err) == wire.StatusUnavailable { // it is asked again until it is known
					_, _, err = r.Deauthorize(t.Context(), with(user("alice"), request), auth)
				}
				h.record(c, step{name, "out"}, call, nil, err == nil)
				if err != nil {
					return
				}
				auth = wire.URI{}
			}
		})
	}
	for c := range 4 {
		all.Go(func() {
			pick := rand.New(rand.NewPCG(1, uint64(c)))
			for ctx.Err() == nil {
				name := users[pick.IntN(len(users))]
				call := time.Now()
				key, err := r.Key(t.Context(), user(name), space.Current)
				switch status(t, err) {
				case 0:
					key.Wipe()
					h.record(len(users)+c, step{name, "fetch"}, call, true, true)
				case wire.StatusForbidden:
					h.record(len(users)+c, step{name, "fetch"}, call, false, true)
				}
			}
		})
	}
	all.Wait()
}

func (h *history) check(t *testing.T) {
	t.Helper()
	if h.freed == 0 || len(h.all) < 50 {
		t.Errorf("%d operations, %d releases: too few to show anything", len(h.all), h.freed)
	}
	if got := porcupine.CheckOperationsTimeout(membership, h.all, time.Minute); got != porcupine.Ok {
		t.Errorf("no order of these %d operations explains what was seen: %v", len(h.all), got)
	}
	t.Logf("%d operations, %d releases", len(h.all), h.freed)
}

// The model itself: what must not be is found.
func TestModelFindsALateRelease(t *testing.T) {
	h := []porcupine.Operation{
		{ClientId: 0, Input: step{"u", "in"}, Call: 0, Return: 1},
		{ClientId: 0, Input: step{"u", "out"}, Call: 2, Return: 3},
		{ClientId: 1, Input: step{"u", "fetch"}, Call: 4, Output: true, Return: 5},
	}
	if porcupine.CheckOperations(membership, h) {
		t.Error("a release after an acknowledged removal is taken for good")
	}
	h[2].Call = 2
	if !porcupine.CheckOperations(membership, h) {
		t.Error("a release beside a removal is not taken for good")
	}
}

// Members come and go while keys are fetched: no release after an acknowledged removal, no refusal after an acknowledged admission (rows R3, R4).
func TestHistory(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{})
		h := &history{begin: time.Now()}
		ctx, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer stop()
		h.run(ctx, t, r, space, []string{"u1", "u2", "u3"}, 0)
		h.check(t)
		r.whole(t.Context())
	})
}

// The same while the database is killed and comes back, several times: what is remembered never wins over a removal (row R4).
func TestHistoryThroughFailures(t *testing.T) {
	if testing.Short() {
		t.Skip("a server of its own: not in the quick part")
	}
	pg := server(t)
	r := start(t, pg.DSN("postgres"), func(c *keyring.Config) { c.Hurry = 200 * time.Millisecond })
	space := r.space(user("alice"), wire.NewResource{})
	h := &history{begin: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	var faults sync.WaitGroup
	faults.Go(func() {
		defer stop()
		pause := time.NewTicker(900 * time.Millisecond)
		defer pause.Stop()
		for range 3 {
			<-pause.C
			if err := pg.Kill(); err != nil {
				t.Error(err)
			}
			<-pause.C
			if err := pg.Start(); err != nil {
				t.Error(err)
				return
			}
		}
		<-pause.C
	})
	h.run(ctx, t, r, space, []string{"u1", "u2", "u3", "u4", "u5", "u6"}, time.Second)
	faults.Wait()
	ready(t, r)
	h.check(t)
	memory := 0
	for _, row := range r.rows() {
		if row.Reason == "from memory, the database was away" {
			memory++
		}
	}
	if memory == 0 {
		t.Error("nothing was released from memory: the test has shown nothing about it")
	}
	t.Logf("%d releases from memory", memory)
	r.whole(t.Context())
}
