// Package client is the Go SDK of Sotto: it joins a meeting as a browser does, publishes and receives RTP. Bots, connectors, load
// generators and the tests of the server are written with it.
//
// It owns one seat: the WebSocket with its resume, the PeerConnection that answers the server's offers, and the goroutines of both.
// It promises that what happens arrives as messages on channels and never as a call into the caller's code; that a dropped socket
// is taken up again within the server's window with nothing missed and no request executed twice; that a reader who is too slow
// loses the oldest messages, counted, and never slows the others down; and that Close returns when every goroutine is gone.
//
// It neither encodes nor decodes media: RTP packets or whole frames go in, RTP packets come out. It does not join again by itself
// when the seat is lost for good: Done and Err say so.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v3"

	"github.com/sotto-edge/sotto/signaling/wire"
)

// Errors that callers match. A refusal of the server is a *wire.Error, which is matched by its code.
var (
	ErrClosed    = errors.New("client: closed")
	ErrRemoved   = errors.New("client: removed from the meeting")
	ErrStopping  = errors.New("client: the server stops")
	ErrSeatLost  = errors.New("client: the seat was lost, join again")
	ErrTakenOver = errors.New("client: another connection took the seat over")
)

// Config says where to join, as whom, and with what.
type Config struct {
	// URL is the address of the appliance, as in "https://meet.example.org". A path, such as that of a meeting's link, is cut off.
	URL string
	// Room is the room's id. A join token for it is fetched, for a host with HostToken, unless Token already is one.
	Room, HostToken string
	Token           string
	// Name is shown to the others.
	Name string
	// TLS is for the HTTPS side; nil trusts what the system trusts.
	TLS *tls.Config
	// Dial makes the connections of the HTTPS side; nil: a net.Dialer does. For those who count what passes.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Publish is what is published at once, so that the first offer has room for it: Local returns the tracks.
	Publish []Publication
	// Data asks for data channels (docs/data.md). Whether there are any, Limits().DataBytes says.
	Data bool
	// AutoSubscribe subscribes to every track of the others, as long as there are slots.
	AutoSubscribe bool
	// Logger hears of the client's life; nil: nobody does.
	Logger *slog.Logger

	// TCP sends and receives media over TCP alone (RFC 6544), for networks that let no UDP through.
	TCP bool
	// Conn carries ICE, DTLS and media instead of sockets of the client's own, for tests that lose packets and load generators that
	// count them. It must be bound to one address. The client closes it.
	Conn net.PacketConn
	// Profiles are the SRTP protection profiles to offer, in this order; empty: AES-128-GCM, then AES-CM-SHA1 (decision 6).
	Profiles []dtls.SRTPProtectionProfile
	// NoFeedback leaves reports, requests for lost packets and transport-wide feedback about received media to the caller, who sends
	// its own by WriteRTCP. Load generators do that from the headers alone, for a fraction of the cost.
	NoFeedback bool
}

// Publication is one track to publish.
type Publication struct {
	Source wire.Source
	// Codec is "opus" for sound; "vp8", "vp9", "h264" or "av1" for pictures. Empty: opus, vp8.
	Codec string
	// Simulcast sends three layers, which LocalTrack.WriteLayer tells apart.
	Simulcast bool
	// Muted starts muted.
	Muted bool
	// Encrypted says that what is written is encrypted end to end. Nothing is encrypted by it.
	Encrypted bool
}

// Client is one seat in a meeting. Its methods may be called from any goroutine.
type Client struct {
	cfg   Config
	log   *slog.Logger
	http  *http.Client
	base  *url.URL
	link  *link
	media *media
	room  *roster

	events  *queue[Event]
	streams *queue[*Stream]
	data    chan DataMessage

	cancel  context.CancelFunc
	work    sync.WaitGroup // everything below run
	done    chan struct{}
	closing atomic.Bool

	wantsData atomic.Bool // WantData has asked
	err       error       // before done is closed: run's; after it: anybody's to read
}

// Join takes a seat and starts the media. It returns when the seat is taken; Connected waits for the media.
func Join(ctx context.Context, cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("client: %q is no https URL", cfg.URL)
	}
	base = &url.URL{Scheme: base.Scheme, Host: base.Host}
	c := &Client{
		cfg: cfg, log: cfg.Logger, base: base, done: make(chan struct{}),
		http:   &http.Client{Transport: &http.Transport{TLSClientConfig: cfg.TLS, DialContext: cfg.Dial}},
		events: newQueue[Event](queuedEvents), streams: newQueue[*Stream](queuedStreams),
		data: make(chan DataMessage, queuedData),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := c.join(ctx); err != nil {
		c.http.CloseIdleConnections()
		return nil, err
	}
	return c, nil
}

func (c *Client) join(ctx context.Context) error {
	token := c.cfg.Token
	if token == "" {
		reply, err := c.joinToken(ctx)
		if err != nil {
			return err
		}
		token = reply.Token
		c.http.CloseIdleConnections() // a WebSocket takes none that was used before: the server need not hold it
	}
	var err error
	if c.media, err = newMedia(c); err != nil {
		return err
	}
	request := &wire.Join{Version: wire.Version, Token: token, Name: c.cfg.Name, Client: "go/1", Data: c.cfg.Data}
	for _, p := range c.cfg.Publish {
		if _, err := c.media.add(p); err != nil {
			return errors.Join(err, c.media.close())
		}
		request.Publish = append(request.Publish, p.wire())
	}
	c.link = newLink(c)
	joined, err := c.link.open(ctx, request)
	if err != nil {
		return errors.Join(err, c.media.close())
	}
	c.room = newRoster(joined)
	for _, t := range joined.Tracks {
		c.media.identify(t)
	}
	c.log = c.log.With("participant", joined.Participant)

	ctx, c.cancel = context.WithCancel(context.Background())
	c.media.negotiating.Go(func() { c.media.negotiate(ctx) })
	c.work.Go(func() { c.link.heartbeat(ctx) })
	if c.cfg.AutoSubscribe {
		c.work.Go(func() { c.subscribeAll(ctx) })
	}
	if !c.cfg.NoFeedback {
		c.work.Go(func() { c.media.repair(ctx) })
	}
	go c.run(ctx)
	return nil
}

// run is the life of the seat from here on. Everything else has ended when it does.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	c.err = c.link.run(ctx)
	if c.closing.Load() {
		c.err = ErrClosed
	}
	c.cancel()
	c.link.fail(c.err)
	if err := c.media.close(); err != nil {
		c.log.Debug("client: close media", slog.Any("error", err))
	}
	c.work.Wait()
	c.http.CloseIdleConnections()
	c.log.Debug("client: ended", slog.Any("reason", c.err))
	c.streams.close()
	c.events.close()
}

// Close ends the connection and the media, without leaving the meeting in so many words: the server finds out. It returns when no
// goroutine of the client is left. It may be called twice. Leave is the polite way.
func (c *Client) Close() error {
	c.closing.Store(true)
	c.cancel()
	<-c.done
	return nil
}

// Leave gives the seat up at once, then closes.
func (c *Client) Leave(ctx context.Context) error {
	_, err := request[*wire.LeaveOK](ctx, c, &wire.Leave{})
	return errors.Join(err, c.Close())
}

// Done is closed when the seat is lost or the client closed, and nothing of the client runs any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the client has ended: nil before Done.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Events delivers what happens in the meeting and to the client, in order. It is closed at the end. Who does not read loses the
// oldest.
func (c *Client) Events() <-chan Event { return c.events.ch }

// Streams delivers each track that begins to play in one of the client's slots. It is closed at the end.
func (c *Client) Streams() <-chan *Stream { return c.streams.ch }

// Participant returns the client's own id.
func (c *Client) Participant() string { return c.room.self.Participant }

// Room returns the room's id.
func (c *Client) Room() string { return c.room.self.Room }

// Role returns what the client may do.
func (c *Client) Role() wire.Role { return c.room.self.Role }

// Limits returns what the server allows.
func (c *Client) Limits() wire.Limits { return c.room.self.Limits }

// Roster returns everybody in the room now, the client itself included.
func (c *Client) Roster() []wire.Participant { return c.room.snapshot() }

// Local returns the client's own publication of a source, nil if there is none.
func (c *Client) Local(s wire.Source) *LocalTrack { return c.media.local(s) }

// Connected waits until media flows: ICE and DTLS are through.
func (c *Client) Connected(ctx context.Context) error { return c.media.connected(ctx) }

func (p Publication) wire() wire.Publication {
	return wire.Publication{Source: p.Source, Codec: strings.ToLower(p.Codec), Simulcast: p.Simulcast, Muted: p.Muted, Encrypted: p.Encrypted}
}

// Publish announces a new track. Packets written to it before its offer is answered are dropped.
func (c *Client) Publish(ctx context.Context, p Publication) (*LocalTrack, error) {
	t, err := c.media.add(p)
	if err != nil {
		return nil, err
	}
	ok, err := request[*wire.PublishOK](ctx, c, &wire.Publish{Publications: []wire.Publication{p.wire()}})
	if err != nil {
		c.media.remove(t)
		return nil, err
	}
	for _, own := range ok.Tracks {
		c.media.identify(own)
	}
	return t, nil
}

// Unpublish ends an own track.
func (c *Client) Unpublish(ctx context.Context, t *LocalTrack) error {
	if _, err := request[*wire.UnpublishOK](ctx, c, &wire.Unpublish{Tracks: []string{t.ID()}}); err != nil {
		return err
	}
	c.media.remove(t)
	return nil
}

// Subscribe asks for tracks of others; Streams delivers them once they play. It returns those that are not in the room any more.
func (c *Client) Subscribe(ctx context.Context, tracks ...string) (missing []string, err error) {
	for part := range slices.Chunk(tracks, wire.MaxTracks) {
		ok, err := request[*wire.SubscribeOK](ctx, c, &wire.Subscribe{Tracks: part})
		if err != nil {
			return missing, err
		}
		missing = append(missing, ok.Missing...)
	}
	return missing, nil
}

// Unsubscribe gives tracks of others up.
func (c *Client) Unsubscribe(ctx context.Context, tracks ...string) error {
	for part := range slices.Chunk(tracks, wire.MaxTracks) {
		if _, err := request[*wire.UnsubscribeOK](ctx, c, &wire.Unsubscribe{Tracks: part}); err != nil {
			return err
		}
	}
	return nil
}

// View says how a track of somebody else is shown; a Width of 0 says that it cannot be seen.
type View = wire.TrackView

// SetViews says how tracks of others are shown, so that no more of them is sent than is of use. Those that are not named stay as they
// were; what was never named counts as shown large.
func (c *Client) SetViews(ctx context.Context, views ...View) error {
	for part := range slices.Chunk(views, wire.MaxTracks) {
		if _, err := request[*wire.ViewOK](ctx, c, &wire.View{Views: part}); err != nil {
			return err
		}
	}
	return nil
}

// SetVideos says how many pictures are wanted at a time, at most; n is at least 1. The server chooses whose, and has a bound of its own.
func (c *Client) SetVideos(ctx context.Context, n int) error {
	_, err := request[*wire.ViewOK](ctx, c, &wire.View{Views: []wire.TrackView{}, Videos: n})
	return err
}

// Mute mutes or unmutes an own track.
func (c *Client) Mute(ctx context.Context, t *LocalTrack, muted bool) error {
	_, err := request[*wire.MuteOK](ctx, c, &wire.Mute{Track: t.ID(), Muted: muted})
	return err
}

// MuteOther mutes somebody else's track until its owner unmutes it; an empty track stands for all their sound. For hosts.
func (c *Client) MuteOther(ctx context.Context, participant, track string) error {
	_, err := request[*wire.ModerateOK](ctx, c, &wire.Moderate{Action: wire.ActionMute, Participant: participant, Track: track})
	return err
}

// WantData asks for data channels after the join: what Config.Data asks for at once. OpenData works when it has returned.
func (c *Client) WantData(ctx context.Context) error {
	if c.Limits().DataBytes == 0 {
		return ErrNoData
	}
	_, err := request[*wire.DataOK](ctx, c, &wire.Data{})
	if err == nil {
		c.wantsData.Store(true)
	}
	return err
}

// MuteData lets nothing of what somebody sends on data channels through, or everything again. For hosts.
func (c *Client) MuteData(ctx context.Context, participant string, muted bool) error {
	action := wire.ActionUnmuteData
	if muted {
		action = wire.ActionMuteData
	}
	_, err := request[*wire.ModerateOK](ctx, c, &wire.Moderate{Action: action, Participant: participant})
	return err
}

// Remove removes somebody from the meeting. For hosts.
func (c *Client) Remove(ctx context.Context, participant string) error {
	_, err := request[*wire.ModerateOK](ctx, c, &wire.Moderate{Action: wire.ActionRemove, Participant: participant})
	return err
}

// StartRecording has the server record the meeting; hosts only. The event wire.Recording tells everybody.
func (c *Client) StartRecording(ctx context.Context) error {
	_, err := request[*wire.RecordStartOK](ctx, c, &wire.RecordStart{})
	return err
}

// StopRecording ends the recording, and returns when it is on the server's disk; hosts only.
func (c *Client) StopRecording(ctx context.Context) error {
	_, err := request[*wire.RecordStopOK](ctx, c, &wire.RecordStop{})
	return err
}

// Recording says whether the meeting is being recorded.
func (c *Client) Recording() wire.RecordingState { return c.room.recorded() }

// Chat sends a line to everybody. The line comes back as an event too, under the id returned.
func (c *Client) Chat(ctx context.Context, text string) (wire.ChatOK, error) {
	ok, err := request[*wire.ChatOK](ctx, c, &wire.Chat{Text: text})
	if err != nil {
		return wire.ChatOK{}, err
	}
	return *ok, nil
}

// Restart says that the client's network changed: an ICE restart follows (RFC 8445 §9).
func (c *Client) Restart(ctx context.Context) error {
	_, err := request[*wire.RestartOK](ctx, c, &wire.Restart{})
	return err
}

// request makes one request and returns its reply.
func request[R wire.Reply](ctx context.Context, c *Client, r wire.Request) (R, error) {
	var none R
	reply, err := c.link.request(ctx, r)
	if err != nil {
		return none, err
	}
	ok, is := reply.(R)
	if !is {
		return none, fmt.Errorf("client: %s answered by %s", r.Kind(), reply.Kind())
	}
	return ok, nil
}
