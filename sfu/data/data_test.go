package data_test

import (
	"net"
	"testing"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/logging"
	"github.com/pion/sctp"

	"github.com/sotto-edge/sotto/sfu/data"
)

const patience = 20 * time.Second

// join makes a member and the client's end of its association.
func join(t *testing.T, r *data.Room, id string) *sctp.Association {
	t.Helper()
	ours, theirs := net.Pipe() // each Write is read by one Read
	m := r.Join(id, ours)
	a, err := sctp.ClientWithOptions(sctp.WithNetConn(theirs), sctp.WithLoggerFactory(logging.NewDefaultLoggerFactory()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		m.Close()
	})
	return a
}

// A receiver that reads nothing loses the oldest messages of a lossy channel; the sender is never held back and nothing is closed.
func TestLossyDropsOldest(t *testing.T) {
	hub := data.NewHub(data.Config{LossyBytes: 64 << 10, MessagesPerSecond: 10000, BytesPerSecond: 64 << 20}, func(_ string, c data.Closed) {
		t.Errorf("closed: %+v", c)
	})
	t.Cleanup(hub.Close)
	r := hub.Room("r")
	ann := join(t, r, "ann")
	join(t, r, "ben") // takes 1 MiB, by SCTP, and reads none of it
	until(t, "two members", func() bool { return hub.Stats().Members == 2 })
	dc, err := datachannel.Dial(ann, 0, &datachannel.Config{
		ChannelType: datachannel.ChannelTypePartialReliableRexmitUnordered, ReliabilityParameter: 100, Label: "x",
		LoggerFactory: logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		t.Fatal(err)
	}
	const n, size = 300, 16 << 10
	for range n {
		if _, err := dc.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "everything has come in", func() bool { return hub.Stats().MessagesIn == n })
	st := hub.Stats()
	if st.Overrun == 0 || st.ClosedSlow != 0 || st.Limited != 0 {
		t.Errorf("counted %+v", st)
	}
	until(t, "the queue is within its bound", func() bool { // one may be on its way in, and one out, at the time of looking
		st := hub.Stats()
		waits := n - st.Overrun - st.MessagesOut
		return waits >= 0 && waits*size <= 64<<10
	})
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
