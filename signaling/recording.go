package signaling

import (
	"context"
	"log/slog"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func (sess *Session) record(ctx context.Context) (wire.Reply, *wire.Error) {
	if err := sess.svc.cfg.Policy.Record(ctx, sess.principal); err != nil {
		return nil, sess.svc.public(err, "decide who may record")
	}
	if err := sess.svc.record(ctx, sess.room.id, string(sess.participant)); err != nil {
		return nil, sess.svc.public(err, "record the meeting")
	}
	return &wire.RecordStartOK{}, nil
}

func (sess *Session) stopRecording(ctx context.Context) (wire.Reply, *wire.Error) {
	if err := sess.svc.cfg.Policy.Record(ctx, sess.principal); err != nil {
		return nil, sess.svc.public(err, "decide who may record")
	}
	if err := sess.svc.stopRecording(ctx, sess.room.id, string(sess.participant)); err != nil {
		return nil, sess.svc.public(err, "end the recording")
	}
	return &wire.RecordStopOK{}, nil
}

func (s *Service) record(ctx context.Context, room, by string) error {
	if s.cfg.Recorder == nil {
		return refuse(wire.Forbidden, "this server does not record meetings", "its operator can allow it")
	}
	if err := s.cfg.Recorder.StartRecording(ctx, room, by); err != nil {
		return err
	}
	s.log.Info("signaling: recording started", slog.String("room", room), slog.String("by", by))
	return nil
}

func (s *Service) stopRecording(ctx context.Context, room, by string) error {
	if s.cfg.Recorder == nil {
		return refuse(wire.Conflict, "the meeting is not being recorded", "")
	}
	if err := s.cfg.Recorder.StopRecording(ctx, room); err != nil {
		return err
	}
	s.log.Info("signaling: recording stopped", slog.String("room", room), slog.String("by", by))
	return nil
}

// StartRecording records a live room in the name of the administrator. Everybody in it is told.
func (s *Service) StartRecording(ctx context.Context, room string) error {
	if s.room(room) == nil {
		return refuse(wire.NotFound, "there is no such live room", "")
	}
	return s.record(ctx, room, "")
}

// StopRecording ends the recording of a live room in the name of the administrator.
func (s *Service) StopRecording(ctx context.Context, room string) error {
	if s.room(room) == nil {
		return refuse(wire.NotFound, "there is no such live room", "")
	}
	return s.stopRecording(ctx, room, "")
}

// recordingEnds are the reasons of package sfu/record that are no fault.
var recordingEnds = map[string]wire.RecordingEnd{
	"stopped": wire.RecordingStopped, "emptied": wire.RecordingStopped, "shutdown": wire.RecordingStopped,
	"limit": wire.RecordingFull, "disk-full": wire.RecordingFull,
}

// recorded takes what the media side says of the recording, and tells everybody. The room's lock is held.
func (r *room) recorded(v *sfu.Recording) {
	r.recording = wire.RecordingState{Active: v.Active, Since: v.StartedAt.UnixMilli(), By: v.By}
	if !v.Active {
		var known bool
		if r.recording.Ended, known = recordingEnds[v.Reason]; !known {
			r.recording.Ended = wire.RecordingFailed
		}
	}
	r.broadcast(&wire.Recording{Recording: r.recording})
}
