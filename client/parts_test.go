package client

import (
	"errors"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/pion/sdp/v3"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// A full queue loses the oldest, and says how many.
func TestQueue(t *testing.T) {
	q := newQueue[int](3)
	for i := range 10 {
		q.put(i)
	}
	q.close()
	q.close()
	q.put(11)
	var got []int
	for v := range q.ch {
		got = append(got, v)
	}
	if diff := cmp.Diff([]int{7, 8, 9}, got); diff != "" {
		t.Error(diff)
	}
	if n := q.dropped.Load(); n != 7 {
		t.Errorf("%d dropped", n)
	}
}

func TestVerdict(t *testing.T) {
	for code, want := range map[int]error{
		wire.CloseNormal: ErrClosed, wire.CloseGoingAway: ErrStopping, wire.CloseTakenOver: ErrTakenOver, wire.CloseRemoved: ErrRemoved,
		wire.CloseExpired: ErrSeatLost, wire.CloseSlow: nil, 1006: nil, 1011: nil,
	} {
		if got := verdict(websocket.CloseError{Code: websocket.StatusCode(code)}); !errors.Is(got, want) {
			t.Errorf("%d: %v, want %v", code, got, want)
		}
	}
	for _, code := range []int{wire.CloseViolation, wire.CloseTooBig} {
		if verdict(websocket.CloseError{Code: websocket.StatusCode(code)}) == nil {
			t.Errorf("%d: comes back", code)
		}
	}
	if verdict(errors.New("reset")) != nil {
		t.Error("a broken connection ends the seat")
	}
}

func TestOnlySending(t *testing.T) {
	in := "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rid:q recv\r\na=rid:h recv\r\na=simulcast:recv q;h\r\na=rid:q send\r\na=rid:h send\r\na=simulcast:send q;h\r\na=sendonly\r\n"
	want := "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rid:q send\r\na=rid:h send\r\na=simulcast:send q;h\r\na=sendonly\r\n"
	if diff := cmp.Diff(want, onlySending(in)); diff != "" {
		t.Error(diff)
	}
}

func TestLayers(t *testing.T) {
	for want, attributes := range map[string][]sdp.Attribute{
		"q h f": {{Key: "rid", Value: "q recv"}, {Key: "simulcast", Value: "recv q;h;f"}},
		"":      {{Key: "simulcast", Value: "send q;h;f"}, {Key: "mid", Value: "recv q"}},
	} {
		got := ""
		for i, rid := range layers(attributes) {
			if i > 0 {
				got += " "
			}
			got += rid
		}
		if got != want {
			t.Errorf("%v: %q, want %q", attributes, got, want)
		}
	}
}
