package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sotto-edge/sotto/control/admin"
	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/internal/token"
)

// ctlCommand is the admin API in a terminal; its verbs are the API's.
type ctlCommand struct {
	location
	URL   string `help:"Admin interface of the node; by default the one that runs on this machine's data folder." placeholder:"URL"`
	Token string `help:"File with the admin token." placeholder:"FILE"`
	CA    string `help:"File with the certificate to trust." placeholder:"FILE"`
	JSON  bool   `help:"Print the answer of the API as it is."`

	Conferences struct {
		List  conferencesList  `cmd:"" default:"1" help:"The meetings that go on."`
		Open  conferencesOpen  `cmd:"" help:"Make a room and its link."`
		Get   conferencesGet   `cmd:"" help:"One meeting and who is in it."`
		Close conferencesClose `cmd:"" help:"End a meeting for everybody; its link works no more."`
	} `cmd:"" help:"Meetings."`
	Participants struct {
		List   participantsList   `cmd:"" help:"Who is in a meeting."`
		Remove participantsRemove `cmd:"" help:"Remove somebody from a meeting."`
	} `cmd:"" help:"People in meetings."`
	Recording struct {
		Get   recordingGet   `cmd:"" default:"withargs" help:"How the recording of a meeting fares."`
		Start recordingStart `cmd:"" help:"Record a meeting; everybody in it is told."`
		Stop  recordingStop  `cmd:"" help:"End the recording of a meeting; everybody in it is told."`
	} `cmd:"" help:"Recordings of meetings."`
	Tokens struct {
		Join   tokensJoin   `cmd:"" help:"Make a token that lets its holder into a room."`
		Opener tokensOpener `cmd:"" help:"Make a token that lets its holder open meetings."`
	} `cmd:"" help:"Tokens."`
	Turn struct {
		List        turnList        `cmd:"" default:"1" help:"What is relayed."`
		Get         turnGet         `cmd:"" help:"One allocation."`
		End         turnEnd         `cmd:"" help:"End an allocation at once; its client may make another."`
		Credentials turnCredentials `cmd:"" help:"Make a time-limited user name and password for the relay of this machine."`
	} `cmd:"" help:"The TURN relay."`
	Whip struct {
		Token whipToken `cmd:"" help:"Make a token to publish into a room over WHIP, or to watch it over WHEP."`
	} `cmd:"" help:"Streams into and out of meetings."`
}

type (
	conferencesList  struct{}
	conferencesOpen  struct{}
	conferencesGet   struct{ inRoom }
	conferencesClose struct{ inRoom }
	participantsList struct{ inRoom }
	recordingGet     struct{ inRoom }
	recordingStart   struct{ inRoom }
	recordingStop    struct{ inRoom }

	participantsRemove struct {
		inRoom
		Participant string `arg:"" help:"Id of the participant."`
	}
	tokensJoin struct {
		inRoom
		Role string `help:"host or participant." enum:"host,participant" default:"participant"`
		Name string `help:"Name of the seat, whatever its holder says."`
	}
	tokensOpener struct {
		Lifetime time.Duration `help:"How long it can be used." default:"24h"`
	}
	whipToken struct {
		inRoom
		Watch    bool          `help:"Watch over WHEP instead of publishing over WHIP."`
		Name     string        `help:"Name of who publishes, whatever its holder says."`
		Lifetime time.Duration `help:"How long it can be used." default:"24h"`
	}
	turnCredentials struct {
		User     string        `help:"Whom the quota is counted for." default:"operator"`
		Lifetime time.Duration `help:"How long an allocation can be made with it." default:"24h"`
	}
	inRoom struct {
		Room string `arg:"" help:"Id of the room, as in its link."`
	}
)

func (r inRoom) path(below ...string) string {
	p := "/conferences/" + url.PathEscape(r.Room)
	for _, b := range below {
		p += "/" + url.PathEscape(b)
	}
	return p
}

// Run lists the meetings.
func (conferencesList) Run(c *ctlCommand, env environment) error {
	var out struct{ Conferences []admin.Conference }
	return c.call(env, http.MethodGet, "/conferences", nil, &out, func(w io.Writer) {
		if len(out.Conferences) == 0 {
			fmt.Fprintln(w, "no meeting goes on")
			return
		}
		fmt.Fprintln(w, "ROOM\tPARTICIPANTS")
		for _, m := range out.Conferences {
			fmt.Fprintf(w, "%s\t%d\n", m.Room, len(m.Participants))
		}
	})
}

// Run makes a room.
func (conferencesOpen) Run(c *ctlCommand, env environment) error {
	var out admin.Meeting
	return c.call(env, http.MethodPost, "/conferences", nil, &out, func(w io.Writer) {
		fmt.Fprintf(w, "link\t%s\nroom\t%s\nhost token\t%s\n", out.URL, out.Room, out.HostToken)
	})
}

// Run shows one meeting.
func (v conferencesGet) Run(c *ctlCommand, env environment) error {
	var out admin.Conference
	return c.call(env, http.MethodGet, v.path(), nil, &out, func(w io.Writer) {
		printParticipants(w, out.Participants)
	})
}

// Run ends a meeting.
func (v conferencesClose) Run(c *ctlCommand, env environment) error {
	return c.call(env, http.MethodDelete, v.path(), nil, nil, func(w io.Writer) { fmt.Fprintln(w, "closed") })
}

// Run shows who is in a meeting.
func (v participantsList) Run(c *ctlCommand, env environment) error {
	var out struct{ Participants []admin.Participant }
	return c.call(env, http.MethodGet, v.path("participants"), nil, &out, func(w io.Writer) { printParticipants(w, out.Participants) })
}

func printParticipants(w io.Writer, all []admin.Participant) {
	fmt.Fprintln(w, "ID\tNAME\tROLE\tHERE\tSINCE\tFROM\tPUBLISHES")
	for _, p := range all {
		here := "yes"
		if !p.Connected {
			here = "away"
		}
		var tracks []string
		for _, t := range p.Tracks {
			name := t.Source + "/" + t.Codec
			if t.Muted {
				name += " (muted)"
			}
			tracks = append(tracks, name)
		}
		// Names come from participants: quoted, they cannot write to the
		// operator's terminal.
		fmt.Fprintf(w, "%s\t%q\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Name, p.Role, here, p.Joined.Local().Format(time.TimeOnly), p.Remote, strings.Join(tracks, ", "))
	}
}

// Run removes a participant.
func (v participantsRemove) Run(c *ctlCommand, env environment) error {
	return c.call(env, http.MethodDelete, v.path("participants", v.Participant), nil, nil, func(w io.Writer) { fmt.Fprintln(w, "removed") })
}

// Run shows the recording of a meeting.
func (v recordingGet) Run(c *ctlCommand, env environment) error {
	return c.recording(env, http.MethodGet, v.inRoom)
}

// Run records a meeting.
func (v recordingStart) Run(c *ctlCommand, env environment) error {
	return c.recording(env, http.MethodPut, v.inRoom)
}

// Run ends the recording of a meeting.
func (v recordingStop) Run(c *ctlCommand, env environment) error {
	return c.call(env, http.MethodDelete, v.path("recording"), nil, nil, func(w io.Writer) { fmt.Fprintln(w, "stopped") })
}

func (c *ctlCommand) recording(env environment, method string, r inRoom) error {
	var out admin.Recording
	return c.call(env, method, r.path("recording"), nil, &out, func(w io.Writer) {
		fmt.Fprintf(w, "folder\t%s\nsince\t%s\ntracks\t%d\nbytes\t%d\npackets lost\t%d\n",
			out.ID, out.Started.Local().Format(time.DateTime), out.Tracks, out.Bytes, out.Lost)
	})
}

// Run makes a join token.
func (v tokensJoin) Run(c *ctlCommand, env environment) error {
	return c.token(env, v.path("tokens"), map[string]any{"role": v.Role, "name": v.Name})
}

// Run makes an opener token.
func (v tokensOpener) Run(c *ctlCommand, env environment) error {
	return c.token(env, "/opener-tokens", map[string]any{"lifetimeSeconds": int(v.Lifetime.Seconds())})
}

// Run makes a token for a stream.
func (v whipToken) Run(c *ctlCommand, env environment) error {
	use := "publish"
	if v.Watch {
		use = "watch"
	}
	var out admin.IssuedStream
	body := map[string]any{"use": use, "name": v.Name, "lifetimeSeconds": int(v.Lifetime.Seconds())}
	return c.call(env, http.MethodPost, v.path("stream-tokens"), body, &out, func(w io.Writer) {
		fmt.Fprintf(w, "url\t%s\ntoken\t%s\n", out.URL, out.Token)
		fmt.Fprintf(w, "until\t%s\n", out.ExpiresAt.Local().Format(time.DateTime))
	})
}

// Run makes credentials for the relay. They are a computation from the node's own secret, so that it is not asked.
func (v turnCredentials) Run(c *ctlCommand, env environment) error {
	cfg, dir, err := c.load(env)
	if err != nil {
		return err
	}
	seed, err := token.LoadSeed(seedFile(dir))
	if err != nil {
		return err
	}
	r := relayServers{cfg: cfg.TURN}
	if err := r.prepare(seed); err != nil {
		return err
	}
	issued, err := r.authority.Issue(v.User, time.Now().Add(v.Lifetime))
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(env.out).Encode(map[string]any{"username": issued.Username, "credential": issued.Password, "expiresAt": issued.Expires.UTC()})
	}
	_, err = fmt.Fprintf(env.out, "user      %s\npassword  %s\nuntil     %s\n", issued.Username, issued.Password, issued.Expires.Local().Format(time.DateTime))
	return err
}

func (c *ctlCommand) token(env environment, path string, body map[string]any) error {
	var out admin.Issued
	return c.call(env, http.MethodPost, path, body, &out, func(w io.Writer) {
		fmt.Fprintf(w, "%s\nuntil %s\n", out.Token, out.ExpiresAt.Local().Format(time.DateTime))
	})
}

// call makes one request and prints its answer.
func (c *ctlCommand) call(env environment, method, path string, body, out any, show func(io.Writer)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node, err := c.connect(env)
	if err != nil {
		return err
	}
	answer, err := node.do(ctx, method, "/admin/v1"+path, body)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := env.out.Write(answer)
		return err
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("ctl: the answer is not what this version knows: %w", err)
		}
	}
	table := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
	show(table)
	return table.Flush()
}

// adminClient speaks to one node.
type adminClient struct {
	base, token string
	http        *http.Client
}

// connect finds the node and what is needed to be believed by it, and to
// believe it.
func (c *ctlCommand) connect(env environment) (*adminClient, error) {
	cfg, dir, err := c.load(env)
	if err != nil {
		return nil, err
	}
	base := c.URL
	if base == "" {
		base = "https://" + cfg.Server.AdminListen
		if running, ok := readInstance(dir); ok {
			base = running.Admin
		}
	}
	tokenFile, caFile := c.Token, c.CA
	if tokenFile == "" {
		tokenFile = adminTokenFile(dir)
	}
	if caFile == "" {
		caFile = tlscert.CertFile(adminDir(dir))
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("ctl: the admin token: %w (has `sotto serve` run here, and as this user?)", err)
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ctl: the certificate to trust: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("ctl: %s holds no certificate", caFile)
	}
	return &adminClient{
		base: strings.TrimSuffix(base, "/"), token: strings.TrimSpace(string(token)),
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}},
	}, nil
}

func (a *adminClient) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("ctl: %w", err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, in)
	if err != nil {
		return nil, fmt.Errorf("ctl: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(r)
	var unreachable *net.OpError
	if errors.As(err, &unreachable) {
		return nil, fmt.Errorf("ctl: no appliance answers at %s; is `sotto serve` running? %w", a.base, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ctl: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("ctl: %w", err)
	}
	if resp.StatusCode < 400 {
		return answer, nil
	}
	var p admin.Problem
	if json.Unmarshal(answer, &p) != nil || p.Code == "" {
		return nil, fmt.Errorf("ctl: %s answers %s", a.base, resp.Status)
	}
	if p.Hint != "" {
		return nil, fmt.Errorf("ctl: %s (%s): %s", p.Detail, p.Code, p.Hint)
	}
	return nil, fmt.Errorf("ctl: %s (%s)", p.Detail, p.Code)
}
