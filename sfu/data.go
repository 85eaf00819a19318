package sfu

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/sotto-edge/sotto/sfu/data"
)

// DataBytes is the largest message that data channels take, unless Config.Data says otherwise.
const DataBytes = data.MessageBytes

// OpenData gives the endpoint data channels that it did not ask for when it joined: the next offer has a section for them, behind
// all others. Who has some already keeps them. ErrNotFound: the node has none; ErrConflict: the endpoint's client offers itself, or has
// lost its channels by a hand-over, as an association that a browser has closed does not come back in the same connection.
func (e *Endpoint) OpenData(ctx context.Context) error {
	return e.do(ctx, func(e *endpoint) error {
		switch {
		case e.conf.node.cfg.NoData:
			return fmt.Errorf("%w: there are no data channels here", ErrNotFound)
		case e.data != nil:
			return nil
		case e.answers:
			return fmt.Errorf("%w: what the client has stands in its offer", ErrConflict)
		case slices.ContainsFunc(e.sections, func(s *section) bool { return s.data }):
			return fmt.Errorf("%w: the channels were on another node", ErrConflict)
		case len(e.sections) >= maxSections:
			return ErrTooMany
		}
		if err := e.openData(); err != nil {
			return err
		}
		e.dirty = true
		e.offer()
		return nil
	})
}

// MuteData lets nothing of what the endpoint sends on data channels through, or everything again.
func (e *Endpoint) MuteData(ctx context.Context, muted bool) error {
	return e.do(ctx, func(e *endpoint) error {
		if e.data == nil {
			return fmt.Errorf("%w: the participant has no data channels", ErrNotFound)
		}
		e.data.SetMuted(muted)
		return nil
	})
}

// openData makes a section for data channels. What comes before the client has answered waits for nothing but its handshake.
func (e *endpoint) openData() error {
	conn, err := e.shard.dtls.Data(e.session)
	if err != nil {
		return fmt.Errorf("sfu: %w", err)
	}
	e.data = e.conf.data.Join(string(e.id), conn)
	e.sections = append(e.sections, &section{mid: strconv.Itoa(len(e.sections)), data: true})
	return nil
}

// closeData ends the data channels, which the client hears of by the end of its transport, or not at all.
func (e *endpoint) closeData() {
	if e.data != nil {
		e.data.Close()
		e.data = nil
	}
}

// loseData tells a participant whose data channels were on another node that they are gone: the association that they went over was
// not handed over. The section is out of use from the next offer on.
func (e *endpoint) loseData() {
	for _, s := range e.sections {
		if s.data {
			e.conf.node.dataClosed(e.conf.id, data.Closed{Member: string(e.id), Reason: data.Moved})
			e.dirty = true
			e.offer()
			return
		}
	}
}
