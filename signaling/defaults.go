package signaling

import (
	"context"
	"errors"
	"time"

	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// How long the tokens of Tokens are good for.
const (
	SeatLife = 5 * time.Minute
	HostLife = 30 * 24 * time.Hour
	ViewLife = 24 * time.Hour // of a link to watch that a host hands out
)

// Tokens is the Authenticator for tokens that this node, or another with the same key, has signed.
type Tokens struct {
	Signer *token.Signer
	Owner  token.Bearer     // the owner's token; zero: there is none
	Now    func() time.Time // nil: time.Now
}

func (t *Tokens) now() time.Time {
	if t.Now == nil {
		return time.Now()
	}
	return t.Now()
}

func (t *Tokens) verify(text string, a token.Audience, hint string) (token.Claims, error) {
	c, err := t.Signer.Verifier().Verify(text, a, t.now())
	switch {
	case errors.Is(err, token.ErrExpired):
		return c, refuse(wire.TokenExpired, "the token has expired", hint)
	case err != nil:
		return c, refuse(wire.Unauthorized, "the token is not valid here", hint)
	}
	return c, nil
}

// Seat implements Authenticator.
func (t *Tokens) Seat(_ context.Context, text string) (Principal, error) {
	c, err := t.verify(text, token.Join, "get a new join token for the room")
	if err != nil {
		return Principal{}, err
	}
	return Principal{Room: c.Room, Role: wire.Role(c.Role), Name: c.Name, ID: c.ID}, nil
}

// Host implements Authenticator.
func (t *Tokens) Host(_ context.Context, text, room string) error {
	const hint = "use the host token that came with the meeting, or none"
	c, err := t.verify(text, token.Host, hint)
	if err != nil {
		return err
	}
	if c.Room != room {
		return refuse(wire.Forbidden, "the host token is for another room", hint)
	}
	return nil
}

// Opener implements Authenticator.
func (t *Tokens) Opener(_ context.Context, text string) error {
	if t.Owner.Matches(text) {
		return nil
	}
	_, err := t.verify(text, token.Open, "use the owner token that the server printed at its start, or ask its administrator for one")
	return err
}

// IssueSeat implements Authenticator.
func (t *Tokens) IssueSeat(_ context.Context, p Principal) (string, time.Time, error) {
	expires := t.now().Add(SeatLife).Truncate(time.Second)
	text, err := t.Signer.Sign(token.Claims{
		Audience: token.Join, Room: p.Room, Role: string(p.Role), Name: p.Name, ID: id.New("j_"), Expires: expires,
	})
	return text, expires, err
}

// IssueHost implements Authenticator.
func (t *Tokens) IssueHost(_ context.Context, room string) (string, error) {
	return t.Signer.Sign(token.Claims{Audience: token.Host, Room: room, ID: id.New("h_"), Expires: t.now().Add(HostLife)})
}

// IssueOpener returns a token that allows its bearer to open meetings: what an administrator hands out.
func (t *Tokens) IssueOpener(life time.Duration) (string, time.Time, error) {
	expires := t.now().Add(life).Truncate(time.Second)
	text, err := t.Signer.Sign(token.Claims{Audience: token.Open, ID: id.New("o_"), Expires: expires})
	return text, expires, err
}

// Ingest implements Streams. Hosts publish with their host token, and whoever may join with a join token: the seat is the same.
func (t *Tokens) Ingest(_ context.Context, text, room string) (Principal, error) {
	return t.stream(text, room, token.Ingest, token.Host, token.Join)
}

// View implements Streams. A host token will do, too.
func (t *Tokens) View(_ context.Context, text, room string) (Principal, error) {
	return t.stream(text, room, token.View, token.Host)
}

func (t *Tokens) stream(text, room string, audiences ...token.Audience) (Principal, error) {
	const hint = "get a token with `sotto ctl whip token`"
	var err error
	for _, a := range audiences {
		var c token.Claims
		if c, err = t.verify(text, a, hint); err == nil {
			if c.Room != room {
				return Principal{}, refuse(wire.Forbidden, "the token is for another room", hint)
			}
			return Principal{Room: room, Role: wire.RoleParticipant, Name: c.Name, ID: c.ID}, nil
		}
		if e := (*wire.Error)(nil); errors.As(err, &e) && e.Code == wire.TokenExpired {
			break
		}
	}
	return Principal{}, err
}

// IssueStream returns a token for publishing into a room or for watching it.
func (t *Tokens) IssueStream(room string, view bool, name string, life time.Duration) (string, time.Time, error) {
	audience := token.Ingest
	if view {
		audience = token.View
	}
	expires := t.now().Add(life).Truncate(time.Second)
	text, err := t.Signer.Sign(token.Claims{Audience: audience, Room: room, Name: name, ID: id.New("w_"), Expires: expires})
	return text, expires, err
}

// IssueView implements Streams.
func (t *Tokens) IssueView(_ context.Context, room string) (string, time.Time, error) {
	return t.IssueStream(room, true, "", ViewLife)
}

// OpenHouse is the Policy of a single appliance: whoever sits at the machine, or shows a good token, may open meetings; whoever
// has the link and a token may join; hosts moderate
// and record.
type OpenHouse struct{}

// Open implements Policy.
func (OpenHouse) Open(_ context.Context, c Caller, authorised bool) error {
	if c.Loopback || authorised {
		return nil
	}
	return refuse(wire.Unauthorized, "only the owner may open meetings from another machine",
		"show the owner token that the server printed at its start, or open the page on the server itself")
}

// Join implements Policy.
func (OpenHouse) Join(context.Context, Principal) error { return nil }

// Moderate implements Policy.
func (OpenHouse) Moderate(_ context.Context, p Principal) error {
	if p.Role == wire.RoleHost {
		return nil
	}
	return refuse(wire.Forbidden, "only a host may do that", "join with the host token of the meeting")
}

// Record implements Policy.
func (OpenHouse) Record(ctx context.Context, p Principal) error { return OpenHouse{}.Moderate(ctx, p) }

// Data lets everybody have data channels.
func (OpenHouse) Data(context.Context, Principal) error { return nil }

// NoICEServers is the ICEServers of a node that its clients reach directly.
type NoICEServers struct{}

// For implements ICEServers.
func (NoICEServers) For(context.Context, Principal) ([]wire.ICEServer, error) { return nil, nil }
