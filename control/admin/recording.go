package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// ErrRefused is what implementations of Recordings wrap when the node does
// not record: it was not allowed to, or has no room. What they wrap it with
// is for the operator to read.
var ErrRefused = errors.New("refused")

// Recordings begins and ends the recording of meetings. Errors that wrap
// ErrNotFound tell that there is no such conference, or no recording of it.
type Recordings interface {
	Recording(ctx context.Context, room string) (Recording, error)
	// StartRecording returns the recording that goes on if there is one.
	StartRecording(ctx context.Context, room string) (Recording, error)
	// StopRecording returns when the recording is on disk.
	StopRecording(ctx context.Context, room string) error
}

// Recording is how the recording of a meeting fares.
type Recording struct {
	ID      string    `json:"id" doc:"The folder below the directory of recordings."`
	Started time.Time `json:"started"`
	By      string    `json:"by" doc:"Id of the host who began it; empty for the operator."`
	Tracks  int       `json:"tracks"`
	Bytes   int64     `json:"bytes"`
	Lost    uint64    `json:"lost" doc:"Packets that did not come, or that the disk did not take."`
}

// Recording finds none.
func (None) Recording(context.Context, string) (Recording, error) { return Recording{}, ErrNotFound }

// StartRecording finds nothing to record.
func (None) StartRecording(context.Context, string) (Recording, error) {
	return Recording{}, ErrNotFound
}

// StopRecording finds none.
func (None) StopRecording(context.Context, string) error { return ErrNotFound }

type oneRecording struct {
	Body Recording
}

func (o operations) registerRecordings(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "get-recording", Method: http.MethodGet, Path: "/admin/v1/conferences/{room}/recording",
		Summary: "The recording of a meeting that goes on", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.getRecording)
	huma.Register(api, huma.Operation{
		OperationID: "start-recording", Method: http.MethodPut, Path: "/admin/v1/conferences/{room}/recording",
		Summary: "Record a meeting from now on; everybody in it is told", Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict},
	}, o.startRecording)
	huma.Register(api, huma.Operation{
		OperationID: "stop-recording", Method: http.MethodDelete, Path: "/admin/v1/conferences/{room}/recording",
		Summary: "End the recording of a meeting; everybody in it is told", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.stopRecording)
}

func (o operations) getRecording(ctx context.Context, in *inRoom) (*oneRecording, error) {
	r, err := o.cfg.Recordings.Recording(ctx, in.Room)
	if err != nil {
		return nil, o.refusal("get the recording of "+in.Room, err)
	}
	return &oneRecording{r}, nil
}

func (o operations) startRecording(ctx context.Context, in *inRoom) (*oneRecording, error) {
	r, err := o.cfg.Recordings.StartRecording(ctx, in.Room)
	if err != nil {
		return nil, o.refusal("record "+in.Room, err)
	}
	o.log.Info("admin records a conference", "room", in.Room, "recording", r.ID)
	return &oneRecording{r}, nil
}

func (o operations) stopRecording(ctx context.Context, in *inRoom) (*nothing, error) {
	if err := o.cfg.Recordings.StopRecording(ctx, in.Room); err != nil {
		return nil, o.refusal("end the recording of "+in.Room, err)
	}
	o.log.Info("admin ended a recording", "room", in.Room)
	return nil, nil
}
