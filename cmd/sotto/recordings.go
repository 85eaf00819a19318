package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sotto-edge/sotto/control/admin"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// Recording implements admin.Recordings.
func (m *meetings) Recording(ctx context.Context, room string) (admin.Recording, error) {
	proper, err := m.rooms.Lookup(ctx, room)
	if err != nil {
		return admin.Recording{}, adminError(err)
	}
	r, err := m.node.Conference(proper).Recording(ctx)
	if errors.Is(err, sfu.ErrNotFound) || errors.Is(err, sfu.ErrNotRecording) {
		return admin.Recording{}, admin.ErrNotFound
	}
	if err != nil {
		return admin.Recording{}, err
	}
	return admin.Recording{ID: r.ID, Started: r.StartedAt.UTC(), By: r.By, Tracks: r.Tracks, Bytes: r.Bytes, Lost: r.Lost}, nil
}

// StartRecording implements admin.Recordings.
func (m *meetings) StartRecording(ctx context.Context, room string) (admin.Recording, error) {
	proper, err := m.rooms.Lookup(ctx, room)
	if err != nil {
		return admin.Recording{}, adminError(err)
	}
	err = m.service.StartRecording(ctx, proper)
	var refusal *wire.Error
	switch {
	case err == nil:
	case !errors.As(err, &refusal):
		return admin.Recording{}, err
	case refusal.Code == wire.Conflict: // it goes on already
	case refusal.Code == wire.Forbidden || refusal.Code == wire.TooMany:
		return admin.Recording{}, fmt.Errorf("%w: %s", admin.ErrRefused, refusal.Message)
	default:
		return admin.Recording{}, adminError(err)
	}
	return m.Recording(ctx, proper)
}

// StopRecording implements admin.Recordings.
func (m *meetings) StopRecording(ctx context.Context, room string) error {
	proper, err := m.rooms.Lookup(ctx, room)
	if err != nil {
		return adminError(err)
	}
	err = m.service.StopRecording(ctx, proper)
	if errors.Is(err, &wire.Error{Code: wire.Conflict}) { // nothing is recorded
		return admin.ErrNotFound
	}
	return adminError(err)
}
