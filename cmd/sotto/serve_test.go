package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/signaling/wire"
)

// lines collects output and lets a test wait for a part of it.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func newLines() *lines { return &lines{grown: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) await(t *testing.T, part string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for !strings.Contains(l.String(), part) {
		select {
		case <-l.grown:
		case <-timeout:
			t.Fatalf("no %q in\n%s", part, l)
		}
	}
}

// running is an appliance in this process, on ports of the system's choice.
type running struct {
	instance
	dir    string
	file   string
	out    *lines
	log    *lines
	client *http.Client
	stop   func() error // and waits; may be called twice
}

const anyPorts = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[media]\nport = 0\n"

func start(t *testing.T, dir, document string) *running {
	t.Helper()
	r := &running{dir: dir, file: filepath.Join(t.TempDir(), "sotto.toml"), out: newLines(), log: newLines()}
	if err := os.WriteFile(r.file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- serveCommand{location: location{Config: r.file, Data: dir}}.serve(ctx, environment{
			out: r.out, err: r.log, getenv: func(string) string { return "" }, uid: 1000,
		})
	}()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	r.log.await(t, "msg=serving")
	in, ok := readInstance(dir)
	if !ok {
		t.Fatal("not announced")
	}
	r.instance = in
	r.trust(t)
	return r
}

// trust makes a client that believes the certificates on disk.
func (r *running) trust(t *testing.T) {
	t.Helper()
	roots := x509.NewCertPool()
	for _, dir := range []string{tlsDir(r.dir), adminDir(r.dir)} {
		text, err := os.ReadFile(tlscert.CertFile(dir))
		if err != nil {
			t.Fatal(err)
		}
		roots.AppendCertsFromPEM(text)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	r.client = &http.Client{Transport: transport}
}

func (r *running) do(t *testing.T, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// ctl runs `sotto ctl` against the appliance.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (r *running) ctl(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	return shell(t, append([]string{"ctl", "-config", r.file, "-data", r.dir}, args...)...)
}

// socket opens a WebSocket and makes its first request.
func (r *running) socket(t *testing.T, first string) (*websocket.Conn, string) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(r.URL, "https:", "wss:", 1)+"/ws", &websocket.DialOptions{
		HTTPClient: r.client, Subprotocols: []string{wire.Subprotocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(first)); err != nil {
		t.Fatal(err)
	}
	_, frame, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn, string(frame)
}

// join takes a seat and returns its socket and the participant's id.
func (r *running) join(t *testing.T, room, hostToken string) (*websocket.Conn, string) {
	t.Helper()
	status, _, body := r.do(t, "POST", r.URL+"/api/v1/meetings/"+room+"/token", fmt.Sprintf(`{"hostToken":%q}`, hostToken))
	var token wire.TokenReply
	if err := json.Unmarshal([]byte(body), &token); status != http.StatusOK || err != nil {
		t.Fatalf("token: %d %s %v", status, body, err)
	}
	conn, frame := r.socket(t, fmt.Sprintf(`{"id":1,"type":"join","version":1,"token":%q,"name":"Ann"}`, token.Token))
	var joined struct{ Type, Participant string }
	if err := json.Unmarshal([]byte(frame), &joined); err != nil || joined.Type != "join.ok" {
		t.Fatalf("join: %s %v", frame, err)
	}
	return conn, joined.Participant
}

// await reads events until one of the type comes.
func await(t *testing.T, conn *websocket.Conn, event string) string {
	t.Helper()
	for {
		_, frame, err := conn.Read(t.Context())
		if err != nil {
			t.Fatalf("waiting for %s: %v", event, err)
		}
		var e struct{ Type string }
		if json.Unmarshal(frame, &e) == nil && e.Type == event {
			return string(frame)
		}
	}
}

// Row A2: no configuration, a self-signed certificate, and a web page. Row
// TR1 and BT9: every link is TLS, the REST API's too; plain HTTP is refused.
func TestServe(t *testing.T) {
	r := start(t, filepath.Join(t.TempDir(), "data"), anyPorts)

	status, header, page := r.do(t, "GET", r.URL+"/", "")
	if status != http.StatusOK || !strings.Contains(page, "<title>Sotto</title>") || header.Get("Content-Security-Policy") == "" {
		t.Errorf("page: %d %.100s", status, page)
	}
	for _, plain := range []string{strings.Replace(r.URL, "https:", "http:", 1) + "/", strings.Replace(r.Admin, "https:", "http:", 1) + "/livez"} {
		if status, _, _ := r.do(t, "GET", plain, ""); status != http.StatusBadRequest {
			t.Errorf("%s is answered: %d", plain, status)
		}
	}
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/metrics": "sotto_sfu_transport_datagrams_total 0\n",
		"/metrics?": `sotto_sfu_quality_score_count{kind="audio",way="slot"} 0`,
	} {
		if status, _, body := r.do(t, "GET", r.Admin+path, ""); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	owner, err := os.ReadFile(ownerTokenFile(r.dir))
	if err != nil || !strings.Contains(r.out.String(), strings.TrimSpace(string(owner))) || !strings.Contains(r.out.String(), adminTokenFile(r.dir)) {
		t.Errorf("greeting, %v:\n%s", err, r.out)
	}
	if strings.Contains(r.log.String(), strings.TrimSpace(string(owner))) {
		t.Error("the owner token is logged")
	}
	for _, secret := range []string{ownerTokenFile(r.dir), adminTokenFile(r.dir), seedFile(r.dir)} {
		if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", secret, info, err)
		}
	}

	again := serveCommand{location: location{Config: r.file, Data: r.dir}}
	err = again.serve(t.Context(), environment{out: io.Discard, err: io.Discard, getenv: os.Getenv, uid: 1000})
	if err == nil || !strings.Contains(err.Error(), r.URL) {
		t.Errorf("a second one on the same folder: %v", err)
	}
}

// Row A13, over the real listener: a meeting is opened, seen, and ended by the
// operator, in a terminal.
func TestOperatorAndMeeting(t *testing.T) {
	r := start(t, t.TempDir(), anyPorts)

	code, out, errs := r.ctl(t, "conferences", "open", "-json")
	var opened wire.Meeting
	if err := json.Unmarshal([]byte(out), &opened); code != 0 || err != nil {
		t.Fatalf("open: %d %s%s", code, out, errs)
	}
	if want := r.URL + "/m/" + opened.Room; opened.URL != want {
		t.Errorf("link %s, want %s", opened.URL, want)
	}
	ann, annID := r.join(t, opened.Room, opened.HostToken)
	bob, bobID := r.join(t, opened.Room, "")

	code, out, _ = r.ctl(t, "conferences", "list")
	if code != 0 || !strings.Contains(out, opened.Room+"  2") {
		t.Errorf("list: %d\n%s", code, out)
	}
	code, out, _ = r.ctl(t, "participants", "list", strings.ToUpper(opened.Room))
	if code != 0 || !strings.Contains(out, annID+`  "Ann"  host`) || !strings.Contains(out, bobID+`  "Ann"  participant`) {
		t.Errorf("participants: %d\n%s", code, out)
	}
	if code, _, errs := r.ctl(t, "participants", "remove", opened.Room, bobID); code != 0 {
		t.Errorf("remove: %d %s", code, errs)
	}
	await(t, bob, "removed")
	if code, _, errs := r.ctl(t, "participants", "remove", opened.Room, bobID); code != 1 || !strings.Contains(errs, "not_found") {
		t.Errorf("remove again: %d %s", code, errs)
	}
	if code, out, errs := r.ctl(t, "tokens", "join", opened.Room, "-role", "host", "-name", "Eve"); code != 0 || !strings.HasPrefix(out, "st1.") {
		t.Errorf("join token: %d %s%s", code, out, errs)
	}

	code, out, _ = r.ctl(t, "tokens", "opener", "-lifetime", "1h")
	opener, _, _ := strings.Cut(out, "\n")
	if code != 0 {
		t.Fatalf("opener token: %d", code)
	}
	// As if from another machine: behind a proxy, this one has no privilege.
	if status, _, body := r.do(t, "POST", r.URL+"/api/v1/meetings", "{}", "X-Forwarded-For", "198.51.100.7"); status != http.StatusUnauthorized {
		t.Errorf("stranger without a token: %d %s", status, body)
	}
	if status, _, body := r.do(t, "POST", r.URL+"/api/v1/meetings", "{}", "X-Forwarded-For", "198.51.100.7", "Authorization", "Bearer "+opener); status != http.StatusCreated {
		t.Errorf("stranger with a token: %d %s", status, body)
	}

	if code, _, errs := r.ctl(t, "conferences", "close", opened.Room); code != 0 {
		t.Errorf("close: %d %s", code, errs)
	}
	await(t, ann, "removed")
	if status, _, body := r.do(t, "POST", r.URL+"/api/v1/meetings/"+opened.Room+"/token", "{}"); status != http.StatusGone {
		t.Errorf("the link of a closed room: %d %s", status, body)
	}
	if code, _, errs := r.ctl(t, "conferences", "get", opened.Room); code != 1 || !strings.Contains(errs, "not_found") {
		t.Errorf("get: %d %s", code, errs)
	}
}

// The operator records a meeting, in a terminal; everybody in it is told. Without a word in the configuration nobody records.
func TestOperatorRecords(t *testing.T) {
	r := start(t, t.TempDir(), anyPorts+"[recording]\nenabled = true\n")
	_, out, _ := r.ctl(t, "conferences", "open", "-json")
	var opened wire.Meeting
	if err := json.Unmarshal([]byte(out), &opened); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := r.ctl(t, "recording", "start", opened.Room); code != 1 || !strings.Contains(errs, "not_found") {
		t.Errorf("a meeting that nobody is in: %d %s", code, errs)
	}
	ann, _ := r.join(t, opened.Room, "")
	code, out, errs := r.ctl(t, "recording", "start", opened.Room, "-json")
	var recording struct{ ID string }
	if err := json.Unmarshal([]byte(out), &recording); code != 0 || err != nil {
		t.Fatalf("start: %d %s%s", code, out, errs)
	}
	await(t, ann, "recording")
	if _, err := os.Stat(filepath.Join(r.dir, "recordings", recording.ID, "manifest.json")); err != nil {
		t.Error(err)
	}
	if code, out, _ := r.ctl(t, "recording", "start", opened.Room); code != 0 || !strings.Contains(out, recording.ID) {
		t.Errorf("start again: %d %s", code, out)
	}
	if code, out, _ := r.ctl(t, "recording", opened.Room); code != 0 || !strings.Contains(out, recording.ID) {
		t.Errorf("get: %d %s", code, out)
	}
	if code, _, errs := r.ctl(t, "recording", "stop", opened.Room); code != 0 {
		t.Errorf("stop: %d %s", code, errs)
	}
	await(t, ann, "recording")
	for _, verb := range []string{"stop", "get"} {
		if code, _, errs := r.ctl(t, "recording", verb, opened.Room); code != 1 || !strings.Contains(errs, "not_found") {
			t.Errorf("%s without one: %d %s", verb, code, errs)
		}
	}

	off := start(t, t.TempDir(), anyPorts)
	_, out, _ = off.ctl(t, "conferences", "open", "-json")
	if err := json.Unmarshal([]byte(out), &opened); err != nil {
		t.Fatal(err)
	}
	off.join(t, opened.Room, "")
	if code, _, errs := off.ctl(t, "recording", "start", opened.Room); code != 1 || !strings.Contains(errs, "conflict") || !strings.Contains(errs, "[recording]") {
		t.Errorf("where it is not allowed: %d %s", code, errs)
	}
	if _, err := os.Stat(filepath.Join(off.dir, "recordings")); err == nil {
		t.Error("a folder for recordings is made where nobody records")
	}
}

// A stop is told to clients; what people hold is good after the restart.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, anyPorts)
	_, out, _ := r.ctl(t, "conferences", "open", "-json")
	var opened wire.Meeting
	if err := json.Unmarshal([]byte(out), &opened); err != nil {
		t.Fatal(err)
	}
	conn, _ := r.join(t, opened.Room, opened.HostToken)
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if closing := await(t, conn, "closing"); !strings.Contains(closing, `"retryAfterMs":1000`) {
		t.Errorf("closing: %s", closing)
	}
	_, _, err := conn.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("closed with %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if code, _, errs := r.ctl(t, "conferences", "list"); code != 1 || !strings.Contains(errs, "is `sotto serve` running?") {
		t.Errorf("ctl without an appliance: %d %s", code, errs)
	}

	client := r.client // trusts the certificates of before
	r = start(t, dir, anyPorts)
	r.client = client
	if status, _, _ := r.do(t, "GET", r.URL+"/m/"+opened.Room, ""); status != http.StatusOK {
		t.Errorf("the link after a restart: %d", status)
	}
	conn, _ = r.join(t, opened.Room, opened.HostToken)
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

// Row TR1, renewed: the certificate and the log level change under the
// running process, by file and by SIGHUP, and a file that is refused changes
// nothing.
func TestReload(t *testing.T) {
	own := t.TempDir()
	cert, key := filepath.Join(own, "own.pem"), filepath.Join(own, "own.key")
	// A self-signed source makes what stands in for one's own certificate.
	copyPair := func(name string) *x509.Certificate {
		t.Helper()
		dir := t.TempDir()
		if _, err := tlscert.New(tlscert.Config{Dir: dir, Names: []string{name}}, discard()); err != nil {
			t.Fatal(err)
		}
		var leaf *x509.Certificate
		for from, to := range map[string]string{tlscert.CertFile(dir): cert, filepath.Join(dir, "key.pem"): key} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if to == cert {
				block, _ := pem.Decode(text)
				if leaf, err = x509.ParseCertificate(block.Bytes); err != nil {
					t.Fatal(err)
				}
			}
		}
		return leaf
	}
	withOwn := anyPorts + fmt.Sprintf("[tls]\ncert_file = %q\nkey_file = %q\n", cert, key)

	r := start(t, t.TempDir(), anyPorts)
	presented := func() *x509.Certificate {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(r.URL, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	hangup := func(document, logged string) {
		t.Helper()
		if err := os.WriteFile(r.file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		r.log.await(t, logged)
	}
	first := presented()

	want := copyPair("one.example.org")
	hangup(withOwn, "configuration reloaded")
	if got := presented(); !got.Equal(want) {
		t.Errorf("presents %v, want one's own", got.DNSNames)
	}
	hangup(anyPorts+"[log]\nlevel = \"loud\"\n", "log.level")
	if got := presented(); !got.Equal(want) {
		t.Error("a refused file changed the certificate")
	}
	hangup(strings.Replace(anyPorts, "port = 0", "port = 9", 1)+"[log]\nformat = \"json\"\n", `"keys":["media.port"]`)
	if got := presented(); !got.Equal(first) {
		t.Errorf("presents %v, want the self-signed one of the start", got.DNSNames)
	}
}

func TestServeSaysWhatIsInTheWay(t *testing.T) {
	r := start(t, t.TempDir(), anyPorts)
	for key, document := range map[string]string{
		"server.listen":       strings.Replace(anyPorts, `listen = "127.0.0.1:0"`, `listen = "`+strings.TrimPrefix(r.URL, "https://")+`"`, 1),
		"server.admin_listen": strings.Replace(anyPorts, `admin_listen = "127.0.0.1:0"`, `admin_listen = "`+strings.TrimPrefix(r.Admin, "https://")+`"`, 1),
		"media.port":          strings.Replace(anyPorts, "port = 0", "port = "+r.Media[strings.LastIndexByte(r.Media, ':')+1:], 1),
		"tls: no such file":   anyPorts + "[tls]\ncert_file = \"/nowhere/c\"\nkey_file = \"/nowhere/k\"\n",
	} {
		file := write(t, "sotto.toml", document)
		dir := t.TempDir()
		err := serveCommand{location: location{Config: file, Data: dir}}.serve(t.Context(), environment{out: io.Discard, err: io.Discard, getenv: os.Getenv, uid: 1000})
		if key, missing := strings.CutPrefix(key, "tls: "); missing {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v", key, err)
			}
		} else if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "sotto doctor") {
			t.Errorf("%s: %v", key, err)
		}
		lock, err := lockData(dir)
		if err != nil {
			t.Fatalf("the folder is still held: %v", err)
		}
		if err := lock.release(); err != nil {
			t.Error(err)
		}
	}
}
