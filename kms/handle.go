package kms

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sotto-edge/sotto/kms/wire"
)

// handle answers one request of an authenticated session.
func (s *Server) handle(ctx context.Context, who wire.Caller, r *wire.Request) *wire.Response {
	who.Request = r.ID
	out := &wire.Response{ID: r.ID, Status: wire.StatusOK}
	err := allowed(&who, r)
	if err == nil {
		err = s.admit(ctx, who)
	}
	if err == nil {
		err = s.do(ctx, who, r, out)
	}
	if err == nil {
		return out
	}
	out.Wipe()
	var told *wire.Error
	if !errors.As(err, &told) {
		s.parts.Log.Error("request failed", slog.String("op", r.Op.String()), slog.String("request", r.ID), slog.Any("err", err))
		told = wire.Refuse(wire.StatusInternal, "the KMS failed; its log says more")
	}
	return wire.Refusal(r.ID, told)
}

func (s *Server) admit(ctx context.Context, who wire.Caller) error {
	if s.parts.Gate.Admit(ctx, who) != nil {
		s.parts.Journal.Refused(ctx, who, CauseGate)
		return strange()
	}
	return nil
}

// allowed refuses what a session of its kind may not ask at all: another KMS fetches for a user whom it names, a user for himself.
func allowed(who *wire.Caller, r *wire.Request) error {
	if who.Peer != "" {
		switch r.Op {
		case wire.OpPing:
			return nil
		case wire.OpKey, wire.OpResource, wire.OpResourceKeys:
			if r.User == "" {
				return wire.Refuse(wire.StatusBadRequest, "userId is missing")
			}
			who.User, who.Domain = r.User, who.Peer
			return nil
		}
		return wire.Refuse(wire.StatusForbidden, "another KMS fetches, no more")
	}
	if r.User != "" {
		return wire.Refuse(wire.StatusForbidden, "userId is for another KMS")
	}
	return nil
}

func (s *Server) do(ctx context.Context, who wire.Caller, r *wire.Request, out *wire.Response) (err error) {
	keys, resources := s.parts.Keys, s.parts.Resources
	switch r.Op {
	case wire.OpPing:
	case wire.OpCreateKeys:
		out.Status = wire.StatusCreated
		out.Keys, err = keys.CreateKeys(ctx, who, r.Count, r.Resource)
	case wire.OpKey:
		out.Key = &wire.Key{}
		*out.Key, err = keys.Key(ctx, who, r.Object)
	case wire.OpBindKey:
		out.Key = &wire.Key{}
		*out.Key, err = keys.BindKey(ctx, who, r.Object, r.Resource)
	case wire.OpResourceKeys:
		which := wire.Range{Count: r.Count}
		if which.Count == 0 {
			which.Count = wire.MaxKeys
		}
		if !r.BoundAfter.IsZero() {
			which.After = r.BoundAfter.UnixMicro()
		}
		if !r.BoundBefore.IsZero() {
			which.Before = r.BoundBefore.UnixMicro()
		}
		out.Keys, err = keys.ResourceKeys(ctx, who, r.Object, which)
	case wire.OpCreateResource:
		out.Status, out.Resource = wire.StatusCreated, &wire.Resource{}
		*out.Resource, err = resources.CreateResource(ctx, who, wire.NewResource{
			AuthIDs: r.AuthIDs, ModeratorIDs: r.ModeratorIDs, Moderated: r.Moderated, KeyURIs: r.KeyURIs, Count: r.Count,
		})
	case wire.OpResource:
		out.Resource = &wire.Resource{}
		*out.Resource, err = resources.Resource(ctx, who, r.Object)
	case wire.OpCreateAuthorization:
		role := r.Role
		if role == "" {
			role = wire.Participant
		}
		out.Status = wire.StatusCreated
		out.Authorizations, err = resources.Authorize(ctx, who, r.Resource, r.AuthIDs, role)
	case wire.OpDeleteAuthorization:
		out.Authorization = &wire.Authorization{}
		*out.Authorization, out.Current, err = resources.Deauthorize(ctx, who, r.Object)
	default:
		err = wire.Refuse(wire.StatusBadRequest, "no such request")
	}
	return err
}
