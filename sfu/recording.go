package sfu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sotto-edge/sotto/sfu/forward"
	"github.com/sotto-edge/sotto/sfu/record"
)

// RecordOptions say how a conference is recorded.
type RecordOptions struct {
	By        string // who asked for it, for the manifest
	Encrypted bool   // the conference is end-to-end encrypted: what is recorded is ciphertext
}

// Recording is the state of a conference's recording.
type Recording struct {
	ID        string // of the folder that it is written into
	StartedAt time.Time
	Active    bool
	By        string
	Reason    string // why it ended, as the manifest has it
	Bytes     int64
	Tracks    int
	Lost      uint64 // packets that were not written
}

// StartRecording begins to record what everybody publishes. EventRecording says so.
func (c *Conference) StartRecording(ctx context.Context, o RecordOptions) (Recording, error) {
	conf, err := c.node.enter(ctx, c.id, false)
	if err != nil {
		return Recording{}, err
	}
	defer conf.leave()
	return conf.record(o)
}

// StopRecording ends the recording and returns when it is on disk.
func (c *Conference) StopRecording(ctx context.Context) (Recording, error) {
	conf, err := c.node.enter(ctx, c.id, false)
	if err != nil {
		return Recording{}, err
	}
	r := conf.recording
	if r == nil {
		conf.leave()
		return Recording{}, ErrNotRecording
	}
	by := conf.recordedBy
	conf.stopRecording(record.Stopped)
	conf.leave()
	select {
	case <-r.Done():
	case <-ctx.Done(): // it ends all the same
		return Recording{}, ctx.Err()
	}
	return recordingState(r, by, false), nil
}

// Recording returns how the recording fares, ErrNotRecording if there is none.
func (c *Conference) Recording(ctx context.Context) (Recording, error) {
	conf, err := c.node.enter(ctx, c.id, false)
	if err != nil {
		return Recording{}, err
	}
	defer conf.leave()
	if conf.recording == nil {
		return Recording{}, ErrNotRecording
	}
	return recordingState(conf.recording, conf.recordedBy, true), nil
}

func recordingState(r *record.Recording, by string, active bool) Recording {
	i := r.Info()
	return Recording{ID: i.ID, StartedAt: i.StartedAt, Active: active, By: by, Bytes: i.Bytes, Tracks: i.Tracks, Lost: i.Lost}
}

// record begins to record, from the next packet of every track on.
func (c *conference) record(o RecordOptions) (Recording, error) {
	switch {
	case c.node.cfg.Recorder == nil:
		return Recording{}, ErrNoRecorder
	case c.away:
		return Recording{}, ErrAway
	case c.recording != nil:
		return Recording{}, ErrRecording
	}
	r, err := c.node.cfg.Recorder.Start(record.Options{Conference: c.id, By: o.By, Encrypted: o.Encrypted, Owner: recordingOwner{c}})
	if errors.Is(err, record.ErrNoRoom) {
		return Recording{}, fmt.Errorf("%w: %w", ErrTooMany, err)
	}
	if err != nil {
		return Recording{}, fmt.Errorf("sfu: %w", err)
	}
	c.recording, c.recordedBy = r, o.By
	for _, p := range c.publications {
		c.tap(p)
	}
	state := recordingState(r, o.By, true)
	c.emit(Event{Type: EventRecording, Recording: &state})
	return state, nil
}

// tap has a publication recorded, if the conference is and there is something to record yet.
func (c *conference) tap(p *publication) {
	if c.recording == nil || p.media == nil {
		return
	}
	s, media := p.owner.shard, p.media
	keys := &tapKeys{shard: s}
	ring := c.recording.Add(record.TrackOptions{
		ID: string(p.id), Participant: string(p.owner.id), Name: p.owner.label, Source: string(p.source), Kind: p.source.Kind(),
		Encrypted: p.encrypted, Epoch: c.node.epoch, Keys: keys,
	})
	if ring == nil {
		return
	}
	s.post(func(now int64) { keys.tap = media.Tap(ring, now) })
}

// tapKeys lets the recorder ask for key frames.
type tapKeys struct {
	shard *shard
	tap   *forward.Tap // the shard's
}

// RequestKey implements record.Keys.
func (k *tapKeys) RequestKey() {
	k.shard.post(func(now int64) {
		if k.tap != nil {
			k.tap.RequestKey(now)
		}
	})
}

// stopRecording closes the taps and lets the recording end. It does not wait for the disk.
func (c *conference) stopRecording(why record.Reason) {
	r := c.recording
	if r == nil {
		return
	}
	c.recording = nil
	_ = c.shards(func(_ *shard, es []*endpoint, now int64) error { // a shard that has ended puts nothing into rings any more
		for _, e := range es {
			for _, p := range e.own {
				if p.media != nil {
					p.media.Untap(now)
				}
			}
		}
		return nil
	})
	r.Finish(why)
	state := recordingState(r, c.recordedBy, false)
	state.Reason = string(why)
	c.emit(Event{Type: EventRecording, Recording: &state})
}

// recordingOwner ends a recording that cannot go on.
type recordingOwner struct{ c *conference }

// RecordingFails implements record.Owner.
func (o recordingOwner) RecordingFails(r *record.Recording, why record.Reason) {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	if o.c.recording == r {
		o.c.stopRecording(why)
	}
}
