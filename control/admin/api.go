package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type operations struct {
	cfg Config
	log *slog.Logger
}

// Inputs and outputs have the shape that huma reads: parameters by tag, and a
// Body.
type (
	nothing struct{}

	inRoom struct {
		Room string `path:"room" maxLength:"64" doc:"Id of the room, as in its link."`
	}
	inParticipant struct {
		Room        string `path:"room" maxLength:"64" doc:"Id of the room, as in its link."`
		Participant string `path:"participant" maxLength:"64" doc:"Id of the participant."`
	}

	conferenceList struct {
		Body struct {
			Conferences []Conference `json:"conferences" nullable:"false"`
		}
	}
	oneConference struct {
		Body Conference
	}
	participantList struct {
		Body struct {
			Participants []Participant `json:"participants" nullable:"false"`
		}
	}

	newMeeting struct {
		Body Meeting
	}
	askJoinToken struct {
		Room string `path:"room" maxLength:"64" doc:"Id of the room, as in its link."`
		Body struct {
			Name string `json:"name,omitempty" maxLength:"64" doc:"Put into the token: the seat has this name then, whatever its holder says."`
			Role string `json:"role,omitempty" enum:"host,participant" default:"participant"`
		}
	}
	askOpenerToken struct {
		Body struct {
			LifetimeSeconds int `json:"lifetimeSeconds,omitempty" minimum:"1" maximum:"31536000" default:"86400"`
		}
	}
	newToken struct {
		Body Issued
	}
	askStreamToken struct {
		Room string `path:"room" maxLength:"64" doc:"Id of the room, as in its link."`
		Body struct {
			Use             string `json:"use,omitempty" enum:"publish,watch" default:"publish" doc:"Publish over WHIP or watch over WHEP."`
			Name            string `json:"name,omitempty" maxLength:"64" doc:"Of who publishes, whatever its holder says."`
			LifetimeSeconds int    `json:"lifetimeSeconds,omitempty" minimum:"1" maximum:"31536000" default:"86400"`
		}
	}
	newStreamToken struct {
		Body IssuedStream
	}
)

func (o operations) register(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-conferences", Method: http.MethodGet, Path: "/admin/v1/conferences",
		Summary: "The meetings that go on", Errors: []int{http.StatusUnauthorized},
	}, o.listConferences)
	huma.Register(api, huma.Operation{
		OperationID: "open-meeting", Method: http.MethodPost, Path: "/admin/v1/conferences", DefaultStatus: http.StatusCreated,
		Summary: "Make a room and its link", Errors: []int{http.StatusUnauthorized},
	}, o.openMeeting)
	huma.Register(api, huma.Operation{
		OperationID: "get-conference", Method: http.MethodGet, Path: "/admin/v1/conferences/{room}",
		Summary: "One meeting that goes on", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.getConference)
	huma.Register(api, huma.Operation{
		OperationID: "close-conference", Method: http.MethodDelete, Path: "/admin/v1/conferences/{room}",
		Summary: "End a meeting for everybody; its link works no more", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.closeConference)
	huma.Register(api, huma.Operation{
		OperationID: "list-participants", Method: http.MethodGet, Path: "/admin/v1/conferences/{room}/participants",
		Summary: "Who is in a meeting", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.listParticipants)
	huma.Register(api, huma.Operation{
		OperationID: "remove-participant", Method: http.MethodDelete, Path: "/admin/v1/conferences/{room}/participants/{participant}",
		Summary: "Remove somebody from a meeting", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.removeParticipant)
	o.registerRecordings(api)
	o.registerRelay(api)
	huma.Register(api, huma.Operation{
		OperationID: "make-join-token", Method: http.MethodPost, Path: "/admin/v1/conferences/{room}/tokens", DefaultStatus: http.StatusCreated,
		Summary: "Make a token that lets its holder into a room", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.makeJoinToken)
	huma.Register(api, huma.Operation{
		OperationID: "make-stream-token", Method: http.MethodPost, Path: "/admin/v1/conferences/{room}/stream-tokens", DefaultStatus: http.StatusCreated,
		Summary: "Make a token to publish into a room over WHIP, or to watch it over WHEP", Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, o.makeStreamToken)
	huma.Register(api, huma.Operation{
		OperationID: "make-opener-token", Method: http.MethodPost, Path: "/admin/v1/opener-tokens", DefaultStatus: http.StatusCreated,
		Summary: "Make a token that lets its holder open meetings", Errors: []int{http.StatusUnauthorized},
	}, o.makeOpenerToken)
}

func (o operations) listConferences(ctx context.Context, _ *nothing) (*conferenceList, error) {
	list, err := o.cfg.Conferences.Conferences(ctx)
	if err != nil {
		return nil, o.refusal("list conferences", err)
	}
	out := &conferenceList{}
	out.Body.Conferences = make([]Conference, len(list)) // [] rather than null
	for i, c := range list {
		out.Body.Conferences[i] = whole(c)
	}
	return out, nil
}

func (o operations) openMeeting(ctx context.Context, _ *nothing) (*newMeeting, error) {
	m, err := o.cfg.Tokens.OpenMeeting(ctx)
	if err != nil {
		return nil, o.refusal("open a meeting", err)
	}
	o.log.Info("admin opened a meeting", "room", m.Room)
	return &newMeeting{m}, nil
}

func (o operations) getConference(ctx context.Context, in *inRoom) (*oneConference, error) {
	c, err := o.cfg.Conferences.Conference(ctx, in.Room)
	if err != nil {
		return nil, o.refusal("get conference "+in.Room, err)
	}
	return &oneConference{whole(c)}, nil
}

func (o operations) closeConference(ctx context.Context, in *inRoom) (*nothing, error) {
	if err := o.cfg.Conferences.CloseConference(ctx, in.Room); err != nil {
		return nil, o.refusal("close conference "+in.Room, err)
	}
	o.log.Info("admin closed a conference", "room", in.Room)
	return nil, nil
}

func (o operations) listParticipants(ctx context.Context, in *inRoom) (*participantList, error) {
	c, err := o.cfg.Conferences.Conference(ctx, in.Room)
	if err != nil {
		return nil, o.refusal("list participants of "+in.Room, err)
	}
	out := &participantList{}
	out.Body.Participants = whole(c).Participants
	return out, nil
}

func (o operations) removeParticipant(ctx context.Context, in *inParticipant) (*nothing, error) {
	if err := o.cfg.Conferences.RemoveParticipant(ctx, in.Room, in.Participant); err != nil {
		return nil, o.refusal("remove participant "+in.Participant+" of "+in.Room, err)
	}
	o.log.Info("admin removed a participant", "room", in.Room, "participant", in.Participant)
	return nil, nil
}

func (o operations) makeJoinToken(ctx context.Context, in *askJoinToken) (*newToken, error) {
	t, err := o.cfg.Tokens.JoinToken(ctx, in.Room, Grant{Name: in.Body.Name, Role: in.Body.Role})
	if err != nil {
		return nil, o.refusal("make a join token for "+in.Room, err)
	}
	o.log.Info("admin made a join token", "room", in.Room, "role", in.Body.Role, "expires", t.ExpiresAt)
	return &newToken{t}, nil
}

func (o operations) makeStreamToken(ctx context.Context, in *askStreamToken) (*newStreamToken, error) {
	t, err := o.cfg.Tokens.StreamToken(ctx, in.Room, StreamGrant{
		Watch: in.Body.Use == "watch", Name: in.Body.Name, Lifetime: time.Duration(in.Body.LifetimeSeconds) * time.Second,
	})
	if err != nil {
		return nil, o.refusal("make a stream token for "+in.Room, err)
	}
	o.log.Info("admin made a stream token", "room", in.Room, "use", in.Body.Use, "expires", t.ExpiresAt)
	return &newStreamToken{t}, nil
}

func (o operations) makeOpenerToken(ctx context.Context, in *askOpenerToken) (*newToken, error) {
	t, err := o.cfg.Tokens.OpenerToken(ctx, OpenerGrant{Lifetime: time.Duration(in.Body.LifetimeSeconds) * time.Second})
	if err != nil {
		return nil, o.refusal("make an opener token", err)
	}
	o.log.Info("admin made an opener token", "expires", t.ExpiresAt)
	return &newToken{t}, nil
}

// refusal turns an error of an implementation into what the caller sees. What
// failed inside is for the log only.
func (o operations) refusal(doing string, err error) error {
	if errors.Is(err, ErrNotFound) {
		return problem(http.StatusNotFound, doing+": not found", "GET /admin/v1/conferences lists the meetings that go on, /admin/v1/turn/allocations what is relayed")
	}
	if errors.Is(err, ErrRefused) {
		return problem(http.StatusConflict, doing+": "+err.Error(), "the section [recording] of the configuration says whether, where and how much is recorded")
	}
	o.log.Error("admin request failed", "doing", doing, "err", err)
	return problem(http.StatusInternalServerError, doing+": failed", "the log of the node says why")
}

// whole replaces the lists that are not there by empty ones: a client should
// not have to tell null from none.
func whole(c Conference) Conference {
	participants := make([]Participant, len(c.Participants))
	for i, p := range c.Participants {
		if p.Tracks == nil {
			p.Tracks = []Track{}
		}
		participants[i] = p
	}
	c.Participants = participants
	return c
}
