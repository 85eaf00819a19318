package signaling

import (
	"context"
	"errors"

	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// NodeMedia is the Media of a real node. The node hears of its Observer, the Service, when it is made, and the Service of its Media:
// make the Service with a NodeMedia, then the node, then set Node, all before the first connection is let in.
type NodeMedia struct{ Node *sfu.Node }

// Join implements Media.
func (m *NodeMedia) Join(ctx context.Context, conference string, o sfu.JoinOptions) (Endpoint, error) {
	e, err := m.Node.Conference(conference).Join(ctx, o)
	if err != nil {
		return nil, fromNode(err)
	}
	return nodeEndpoint{e}, nil
}

// JoinOffered implements Media.
func (m *NodeMedia) JoinOffered(ctx context.Context, conference string, o sfu.OfferedJoin) (Endpoint, *sfu.Offer, error) {
	e, answer, err := m.Node.Conference(conference).JoinOffered(ctx, o)
	if err != nil {
		return nil, nil, fromNode(err)
	}
	return nodeEndpoint{e}, answer, nil
}

// StartRecording implements Recorder.
func (m *NodeMedia) StartRecording(ctx context.Context, conference, by string) error {
	_, err := m.Node.Conference(conference).StartRecording(ctx, sfu.RecordOptions{By: by})
	return fromNode(err)
}

// StopRecording implements Recorder.
func (m *NodeMedia) StopRecording(ctx context.Context, conference string) error {
	_, err := m.Node.Conference(conference).StopRecording(ctx)
	return fromNode(err)
}

// nodeEndpoint gives the errors of an endpoint their codes.
type nodeEndpoint struct{ e *sfu.Endpoint }

func (n nodeEndpoint) Tracks(ctx context.Context) (map[sfu.Source]sfu.TrackID, error) {
	t, err := n.e.Tracks(ctx)
	return t, fromNode(err)
}

func (n nodeEndpoint) Publish(ctx context.Context, p sfu.Publish) (sfu.TrackID, error) {
	t, err := n.e.Publish(ctx, p)
	return t, fromNode(err)
}

func (n nodeEndpoint) Unpublish(ctx context.Context, t sfu.TrackID) error {
	return fromNode(n.e.Unpublish(ctx, t))
}

func (n nodeEndpoint) Subscribe(ctx context.Context, t []sfu.TrackID) error {
	return fromNode(n.e.Subscribe(ctx, t))
}

func (n nodeEndpoint) Unsubscribe(ctx context.Context, t []sfu.TrackID) error {
	return fromNode(n.e.Unsubscribe(ctx, t))
}

func (n nodeEndpoint) SetViews(ctx context.Context, v []sfu.View) error {
	return fromNode(n.e.SetViews(ctx, v))
}

func (n nodeEndpoint) SetVideos(ctx context.Context, most int) error {
	return fromNode(n.e.SetVideos(ctx, most))
}

func (n nodeEndpoint) SetMuted(ctx context.Context, t sfu.TrackID, muted bool) error {
	return fromNode(n.e.SetMuted(ctx, t, muted))
}

func (n nodeEndpoint) OpenData(ctx context.Context) error { return fromNode(n.e.OpenData(ctx)) }

func (n nodeEndpoint) MuteData(ctx context.Context, muted bool) error {
	return fromNode(n.e.MuteData(ctx, muted))
}

func (n nodeEndpoint) Answer(ctx context.Context, number int, a sfu.Answer) error {
	return fromNode(n.e.Answer(ctx, number, a))
}

func (n nodeEndpoint) Restart(ctx context.Context) error { return fromNode(n.e.Restart(ctx)) }

func (n nodeEndpoint) RestartOffered(ctx context.Context, p sfu.ICEParams) (sfu.ICEParams, error) {
	out, err := n.e.RestartOffered(ctx, p)
	return out, fromNode(err)
}

func (n nodeEndpoint) Close() error { return n.e.Close() }

// nodeErrors are the codes of what sfu refuses.
var nodeErrors = []struct {
	is   error
	code wire.Code
	hint string
}{
	{sfu.ErrNotFound, wire.NotFound, ""},
	{sfu.ErrConflict, wire.Conflict, "unpublish the first one before"},
	{sfu.ErrStaleOffer, wire.StaleOffer, "answer the newest offer"},
	{sfu.ErrBadAnswer, wire.BadRequest, "answer the offer as it was sent"},
	{sfu.ErrBadOffer, wire.BadRequest, "offer audio and video by the codecs that the server speaks"},
	{sfu.ErrTooMany, wire.TooMany, "the server, the conference or the session has no room for more"},
	{sfu.ErrUnsupportedCodec, wire.UnsupportedCodec, ""},
	{sfu.ErrNoRecorder, wire.Forbidden, "the operator of the server has not allowed recordings"},
	{sfu.ErrRecording, wire.Conflict, "the event recording says since when"},
	{sfu.ErrNotRecording, wire.Conflict, ""},
	{sfu.ErrClosed, wire.SessionGone, "join again"},
}

func fromNode(err error) error {
	for _, n := range nodeErrors {
		if errors.Is(err, n.is) {
			return refuse(n.code, err.Error(), n.hint)
		}
	}
	return err
}
