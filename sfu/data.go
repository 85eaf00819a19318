package sfu

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sotto-edge/sotto/sfu/data"
)

// DataBytes is the largest message that data channels take, unless Config.Data says otherwise.
const DataBytes = data.MessageBytes

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
