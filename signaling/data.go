package signaling

import (
	"context"
	"errors"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// mayHaveData says whether somebody may have data channels. That they may not is no reason not to let them in.
func (s *Service) mayHaveData(ctx context.Context, p Principal) (bool, error) {
	if s.cfg.DataBytes == 0 {
		return false, nil
	}
	err := s.cfg.Policy.Data(ctx, p)
	var refusal *wire.Error
	if errors.As(err, &refusal) {
		return false, nil
	}
	return err == nil, err
}

// openData gives the client data channels after it has joined.
func (sess *Session) openData(ctx context.Context) (wire.Reply, *wire.Error) {
	if !sess.mayHaveData {
		return nil, refuse(wire.Forbidden, "there are no data channels for this participant", "limits.dataBytes of join.ok says so")
	}
	endpoint, done, refusal := sess.turnToMute(ctx) // they may be muted, from the moment on at which they are there
	if refusal != nil {
		return nil, refusal
	}
	defer done()
	if err := endpoint.OpenData(ctx); err != nil {
		return nil, sess.svc.public(err, "open data channels")
	}
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if !sess.ended && sess.data == "" {
		sess.data = wire.DataOpen
		sess.room.recast()
		sess.room.report(nil, &wire.Updated{Participant: sess.describe()})
	}
	return &wire.DataOK{}, nil
}

// muteData lets nothing of what the session sends on data channels through, or everything again, until a host says otherwise.
func (sess *Session) muteData(ctx context.Context, muted bool) *wire.Error {
	endpoint, done, refusal := sess.turnToMute(ctx)
	if refusal != nil {
		return refusal
	}
	defer done()
	if err := endpoint.MuteData(ctx, muted); err != nil {
		return sess.svc.public(err, "mute data")
	}
	state := wire.DataOpen
	if muted {
		state = wire.DataMuted
	}
	sess.room.mu.Lock()
	defer sess.room.mu.Unlock()
	if !sess.ended && sess.data != state {
		sess.data = state
		sess.room.report(nil, &wire.Updated{Participant: sess.describe()})
	}
	return nil
}

// dataClosed tells the client that the media side has closed a channel. The room's lock is held.
func (sess *Session) dataClosed(c *sfu.DataClosed) {
	e := &wire.DataClosed{Label: c.Label, From: c.From, Reason: wire.DataReason(c.Reason)}
	sess.tell(e)
	if e.Reason == wire.DataMoved && sess.data != "" {
		sess.data = ""
		sess.room.report(nil, &wire.Updated{Participant: sess.describe()})
	}
}
