package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/control/admin"
	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/internal/id"
	"github.com/sotto-edge/sotto/internal/obs"
	"github.com/sotto-edge/sotto/internal/porter"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/internal/udp"
	"github.com/sotto-edge/sotto/kms/relay"
	"github.com/sotto-edge/sotto/sfu"
	"github.com/sotto-edge/sotto/sfu/icetcp"
	"github.com/sotto-edge/sotto/sfu/record"
	"github.com/sotto-edge/sotto/sfu/transport"
	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/whip"
	"github.com/sotto-edge/sotto/signaling/wire"
	"github.com/sotto-edge/sotto/signaling/ws"
	"github.com/sotto-edge/sotto/web"
)

// comeBack is when clients of a node that stops should try again: a restart
// takes about that long.
const comeBack = time.Second

// meetings plugs media, signaling, the page and the admin interface together.
type meetings struct {
	node       *sfu.Node
	relay      *relayServers
	keys       *relay.Relay   // nil: no key service's clients are carried
	streams    *icetcp.Server // nil: no media over TCP
	streaming  sync.WaitGroup
	recorder   *record.Recorder // nil: meetings are not recorded
	service    *signaling.Service
	tidier     *tidier // between the two; nil until there is a service
	store      *store.Store
	rooms      *signaling.Rooms
	tokens     *signaling.Tokens
	handler    http.Handler
	ownerToken string
	url        string // of the page, for links; set before anything is served
}

// openMeetings opens the media port. Nothing is served before the handler is.
func openMeetings(ctx context.Context, cfg config.Config, dir string, page *tlscert.Source, port *porter.Porter, log *slog.Logger, metrics *obs.Metrics) (_ *meetings, err error) {
	m := &meetings{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	// One secret on disk; each use has a key of its own derived from it.
	seed, err := token.LoadSeed(seedFile(dir))
	if err != nil {
		return nil, err
	}
	owner, text, err := token.LoadBearer(ownerTokenFile(dir))
	if err != nil {
		return nil, err
	}
	m.ownerToken = text
	m.tokens = &signaling.Tokens{Signer: token.NewSigner(seed.Derive("tokens")), Owner: owner}
	if m.store, err = store.Open(ctx, store.Config{Database: database(dir, cfg), Domains: domains(), Log: log}); err != nil {
		return nil, err
	}
	m.rooms = signaling.NewRooms(id.NewRooms(seed.Derive("rooms").Key()), m.store)
	m.relay = &relayServers{cfg: cfg.TURN, log: log}
	if err := m.relay.prepare(seed); err != nil {
		return nil, err
	}
	media := &signaling.NodeMedia{}
	signals := signaling.Config{Media: media, Auth: m.tokens, Streams: m.tokens, ICE: m.relay, Directory: m.rooms, Participants: cfg.Media.MaxParticipants, Viewers: cfg.Media.MaxViewers}
	if cfg.Media.Data {
		signals.DataBytes = sfu.DataBytes
	}
	if cfg.Recording.Enabled {
		if m.recorder, err = record.New(record.Config{
			Directory: recordingsDir(dir, cfg.Recording.Directory), MaxBytes: int64(cfg.Recording.MaxBytes),
		}, log); err != nil {
			return nil, fmt.Errorf("recording.directory: %w", err)
		}
		signals.Recorder = media
	}
	if m.service, err = signaling.New(signals, log); err != nil {
		return nil, err
	}
	m.tidier = newTidier(m.service)
	public, err := publicAddresses(cfg.Media)
	if err != nil {
		return nil, err
	}
	mediaKey := seed.Derive("media").Key()
	secret, err := transport.NewUfragKey(mediaKey[:])
	if err != nil {
		return nil, err
	}
	streamPort := uint16(0)
	if cfg.Media.TCP {
		streamPort = pagePort(cfg, port)
	}
	if m.node, err = sfu.NewNode(sfu.Config{
		Listen:        netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(cfg.Media.Port)),
		Public:        public,
		Secret:        secret,
		Observer:      m.tidier,
		Recorder:      m.recorder,
		MaxSessions:   cfg.Media.MaxSessions,
		MaxEndpoints:  cfg.Media.MaxParticipants + cfg.Media.MaxViewers,
		Loudest:       cfg.Media.Loudest,
		Videos:        cfg.Media.Videos,
		NoData:        !cfg.Media.Data,
		Beside:        cfg.TURN.Enabled || cfg.Media.TCP,
		StreamPort:    streamPort,
		Relay:         cfg.TURN.Enabled && cfg.TURN.SharedPorts,
		Shards:        cfg.Media.Shards,
		ReceiveBuffer: cfg.Media.ReceiveBuffer, SendBuffer: cfg.Media.SendBuffer,
	}, log); err != nil {
		return nil, fmt.Errorf("media.port: %w (`sotto doctor` says more)", err)
	}
	media.Node = m.node
	if cfg.Media.TCP {
		m.openStreams(port, log, metrics)
	}

	mux := http.NewServeMux()
	door := ws.New(m.service, ws.Config{Origins: origins(cfg.Server.URL)}, log)
	for _, pattern := range ws.Patterns() {
		mux.Handle(pattern, door)
	}
	streams := whip.New(m.service, whip.Config{Origins: origins(cfg.Server.URL)}, log)
	for _, pattern := range whip.Patterns() {
		mux.Handle(pattern, streams)
	}
	if m.keys, err = newKMSRelay(cfg.KMS, dir, log); err != nil {
		return nil, err
	}
	if m.keys != nil {
		mux.Handle(relay.Pattern, m.keys)
	}
	mux.Handle("/", web.Handler())
	m.handler = mux

	if cfg.TURN.Enabled {
		if err := m.relay.open(cfg, page, port, m.node, metrics); err != nil {
			return nil, err
		}
	}
	obs.Expose(metrics, "sotto_signaling", "rooms and sessions", func() (signaling.Stats, error) { return m.service.Stats(), nil })
	obs.Expose(metrics, "sotto_store", "database", func() (store.Stats, error) { return m.store.Stats(), nil })
	obs.Expose(metrics, "sotto_sfu", "media node", func() (sfu.Stats, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return m.node.Stats(ctx)
	})
	showScores(metrics, m.node)
	return m, nil
}

// openStreams takes media over TCP in.
func (m *meetings) openStreams(port *porter.Porter, log *slog.Logger, metrics *obs.Metrics) {
	m.streams = icetcp.New(icetcp.Config{Receiver: m.node})
	m.node.Carry(udp.Stream, m.streams)
	m.streaming.Go(func() {
		if err := m.streams.Serve(port.ICE); err != nil {
			log.Error("no more media over TCP", "err", err)
		}
	})
	obs.Expose(metrics, "sotto_ice_tcp", "media over TCP", func() (icetcp.Stats, error) { return m.streams.Stats(), nil })
}

// showScores shows how well media arrives: docs/quality.md.
func showScores(metrics *obs.Metrics, node *sfu.Node) {
	for i, s := range node.Scores() {
		way := "publication"
		if s.Slot {
			way = "slot"
		}
		metrics.HistogramFunc("sotto_sfu_quality_score", "How good tracks arrive, from 1 (bad) to 5, each looked at every two seconds.",
			sfu.ScoreBounds[:], func() obs.Histogram {
				now := node.Scores()[i]
				return obs.Histogram{Counts: now.Counts[:], Sum: now.Sum}
			}, obs.Label{Name: "kind", Value: s.Kind.String()}, obs.Label{Name: "way", Value: way})
	}
}

// publicAddresses are offered with the port that is listened on.
func publicAddresses(m config.Media) ([]netip.AddrPort, error) {
	out := make([]netip.AddrPort, 0, len(m.PublicAddresses))
	for _, text := range m.PublicAddresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("media.public_addresses: %w", err)
		}
		out = append(out, netip.AddrPortFrom(addr, 0))
	}
	return out, nil
}

// origins are the hosts that pages come from when a proxy in front gives the
// appliance another name than the one it sees.
func origins(page string) []string {
	u, err := url.Parse(page)
	if err != nil || u.Host == "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(u.Host); err == nil && port == "443" {
		return []string{host}
	}
	return []string{u.Host}
}

// sayGoodbye tells clients that the node stops, and closes their sockets.
func (m *meetings) sayGoodbye() {
	m.service.Stop("the server stops", comeBack)
}

// close ends sessions and media, and returns when nothing of them runs.
func (m *meetings) close() error {
	var errs []error
	if m.keys != nil {
		m.keys.Close()
	}
	if m.service != nil {
		errs = append(errs, m.service.Close())
	}
	if m.relay != nil {
		errs = append(errs, m.relay.close())
	}
	if m.streams != nil {
		errs = append(errs, m.streams.Close())
		m.streaming.Wait()
	}
	if m.node != nil {
		errs = append(errs, m.node.Close())
	}
	if m.tidier != nil {
		m.tidier.stop()
	}
	if m.recorder != nil {
		errs = append(errs, m.recorder.Close())
	}
	if m.store != nil {
		errs = append(errs, m.store.Close())
	}
	return errors.Join(errs...)
}

// The rest implements what package admin shows, over signaling.

// Conferences implements admin.Conferences.
func (m *meetings) Conferences(ctx context.Context) ([]admin.Conference, error) {
	media, err := m.media(ctx)
	if err != nil {
		return nil, err
	}
	rooms := m.service.Rooms()
	out := make([]admin.Conference, len(rooms))
	for i, r := range rooms {
		out[i] = conference(r, media[r.ID])
	}
	return out, nil
}

// media returns the endpoints of each conference by their participants.
func (m *meetings) media(ctx context.Context) (map[string]map[string]sfu.EndpointInfo, error) {
	conferences, err := m.node.Conferences(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]map[string]sfu.EndpointInfo, len(conferences))
	for _, c := range conferences {
		out[c.ID] = make(map[string]sfu.EndpointInfo, len(c.Endpoints))
		for _, e := range c.Endpoints {
			out[c.ID][string(e.Participant)] = e
		}
	}
	return out, nil
}

// Conference implements admin.Conferences.
func (m *meetings) Conference(ctx context.Context, room string) (admin.Conference, error) {
	proper, err := m.rooms.Lookup(ctx, room)
	if err != nil {
		return admin.Conference{}, adminError(err)
	}
	r, ok := m.service.Room(proper)
	if !ok {
		return admin.Conference{}, admin.ErrNotFound
	}
	media, err := m.media(ctx)
	if err != nil {
		return admin.Conference{}, err
	}
	return conference(r, media[r.ID]), nil
}

// CloseConference implements admin.Conferences.
func (m *meetings) CloseConference(ctx context.Context, room string) error {
	return adminError(m.service.CloseRoom(ctx, room))
}

// RemoveParticipant implements admin.Conferences.
func (m *meetings) RemoveParticipant(ctx context.Context, room, participant string) error {
	proper, err := m.rooms.Lookup(ctx, room)
	if err != nil {
		return adminError(err)
	}
	return adminError(m.service.Remove(proper, participant))
}

// OpenMeeting implements admin.Tokens. The operator may always.
func (m *meetings) OpenMeeting(ctx context.Context) (admin.Meeting, error) {
	opened, err := m.service.OpenMeeting(ctx, signaling.Caller{Loopback: true})
	if err != nil {
		return admin.Meeting{}, adminError(err)
	}
	return admin.Meeting{Room: opened.Room, URL: m.url + "/m/" + opened.Room, HostToken: opened.HostToken}, nil
}

// JoinToken implements admin.Tokens.
func (m *meetings) JoinToken(ctx context.Context, room string, g admin.Grant) (admin.Issued, error) {
	request := wire.TokenRequest{Name: g.Name}
	if g.Role == string(wire.RoleHost) {
		proper, err := m.rooms.Lookup(ctx, room)
		if err != nil {
			return admin.Issued{}, adminError(err)
		}
		if request.HostToken, err = m.tokens.IssueHost(ctx, proper); err != nil {
			return admin.Issued{}, err
		}
	}
	t, err := m.service.JoinToken(ctx, room, request)
	if err != nil {
		return admin.Issued{}, adminError(err)
	}
	return admin.Issued{Token: t.Token, ExpiresAt: time.UnixMilli(t.ExpiresAt).UTC()}, nil
}

// StreamToken implements admin.Tokens.
func (m *meetings) StreamToken(ctx context.Context, room string, g admin.StreamGrant) (admin.IssuedStream, error) {
	proper, err := m.rooms.Lookup(ctx, room)
	if err != nil {
		return admin.IssuedStream{}, adminError(err)
	}
	text, expires, err := m.tokens.IssueStream(proper, g.Watch, g.Name, g.Lifetime)
	out := admin.IssuedStream{Issued: admin.Issued{Token: text, ExpiresAt: expires.UTC()}, URL: m.url + "/whip/" + proper}
	if g.Watch {
		out.URL = m.url + "/whep/" + proper
	}
	return out, err
}

// OpenerToken implements admin.Tokens.
func (m *meetings) OpenerToken(_ context.Context, g admin.OpenerGrant) (admin.Issued, error) {
	text, expires, err := m.tokens.IssueOpener(g.Lifetime)
	return admin.Issued{Token: text, ExpiresAt: expires.UTC()}, err
}

// conference puts what signaling and what the media node know of a room together.
func conference(r signaling.RoomInfo, media map[string]sfu.EndpointInfo) admin.Conference {
	c := admin.Conference{Room: r.ID, Participants: make([]admin.Participant, len(r.Participants))}
	for i, p := range r.Participants {
		e := media[p.ID]
		tracks := make(map[string]sfu.TrackInfo, len(e.Tracks))
		for _, t := range e.Tracks {
			tracks[string(t.ID)] = t
		}
		out := admin.Participant{
			ID: p.ID, Name: p.Name, Role: string(p.Role), Connected: p.Connected,
			Client: p.Client, Remote: p.Remote, Joined: p.Joined.UTC(), Tracks: make([]admin.Track, len(p.Tracks)), Media: mediaOf(e),
		}
		for j, t := range p.Tracks {
			x := tracks[t.ID]
			out.Tracks[j] = admin.Track{
				ID: t.ID, Source: string(t.Source), Codec: string(t.Codec), Muted: t.Muted,
				Live: x.Live, Receivers: x.Receivers, Packets: x.Packets, Bytes: x.Bytes, Forwarded: x.Forwarded,
				Layers: make([]admin.Layer, len(x.Layers)),
			}
			for k, l := range x.Layers {
				out.Tracks[j].Layers[k] = admin.Layer{
					RID: l.RID, Packets: l.Packets, Bytes: l.Bytes, Spatial: l.Spatial, Temporal: l.Temporal, Width: l.Width, Height: l.Height,
				}
			}
		}
		c.Participants[i] = out
	}
	return c
}

func mediaOf(e sfu.EndpointInfo) admin.Media {
	m := admin.Media{State: "none", Slots: make([]admin.Slot, len(e.Slots))}
	if e.Participant == "" {
		return m
	}
	m.State, m.Cipher, m.RoundTripSeconds = e.State.String(), e.Cipher, time.Duration(e.RoundTripNS).Seconds()
	for i, s := range e.Slots {
		m.Slots[i] = admin.Slot{MID: s.MID, Track: string(s.Track), Packets: s.Packets, Lost: s.Lost}
		if l := s.Sends; l != nil {
			m.Slots[i].Sends = &admin.Sent{Stream: l.Stream, Spatial: l.Spatial, Temporal: l.Temporal}
		}
	}
	return m
}

// adminError tells admin which refusals of signaling mean that something is
// not there.
func adminError(err error) error {
	var refusal *wire.Error
	if errors.As(err, &refusal) && (refusal.Code == wire.NotFound || refusal.Code == wire.RoomClosed) {
		return fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	return err
}
