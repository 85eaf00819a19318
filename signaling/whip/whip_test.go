package whip

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/webrtc/v4"

	"github.com/sotto-edge/sotto/signaling"
	"github.com/sotto-edge/sotto/signaling/wire"
)

func TestPublishAndWatch(t *testing.T) {
	w := newWorld(t, nil)
	pub := w.publisher(1e6)
	if got := w.names(); got != "Live" {
		t.Errorf("roster %q", got)
	}
	view := w.viewer()
	view.sees(1e6)
	if got := w.names(); got != "Live,Broadcast" {
		t.Errorf("roster %q while somebody watches", got)
	}
	if !strings.HasPrefix(view.url, "/whep/"+w.room+"/") || !strings.HasPrefix(pub.url, "/whip/"+w.room+"/") {
		t.Errorf("locations %s, %s", pub.url, view.url)
	}
	st, err := w.node.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Transport.RolesYielded != 0 || st.Transport.RoleConflicts == 0 {
		t.Errorf("roles: %d conflicts, %d yielded: the client was to give in", st.Transport.RoleConflicts, st.Transport.RolesYielded)
	}
	for _, p := range []*peer{view, pub} {
		if r := w.call(http.MethodDelete, p.url, ""); r.status != http.StatusOK {
			t.Errorf("DELETE: %d %s", r.status, r.body)
		}
		p.becomes(webrtc.PeerConnectionStateClosed)
		if r := w.call(http.MethodDelete, p.url, ""); r.status != http.StatusNotFound {
			t.Errorf("DELETE again: %d %s", r.status, r.body)
		}
	}
	if got := w.names(); got != "" {
		t.Errorf("roster %q at the end", got)
	}
}

func TestViewerFollowsThePublisher(t *testing.T) {
	w := newWorld(t, nil)
	view := w.viewer() // before there is anything to see
	first := w.publisher(1e6)
	view.sees(1e6)
	second := w.publisher(3e6) // it starts anew, and the server has not noticed yet that the first is gone
	view.sees(3e6)
	if r := w.call(http.MethodDelete, second.url, ""); r.status != http.StatusOK {
		t.Fatalf("DELETE: %d", r.status)
	}
	view.sees(1e6)
	_ = first.pc.Close() // its goodbye is what ends it
	w.until("the roster", func() bool { return w.names() == "Broadcast" })
	w.publisher(5e6)
	view.sees(5e6)
}

var credentials = regexp.MustCompile(`a=ice-(?:ufrag|pwd):\S+`)

func TestRestart(t *testing.T) {
	w := newWorld(t, nil)
	w.publisher(1e6)
	view := w.viewer()
	view.sees(1e6)

	old := credentials.FindAllString(view.pc.LocalDescription().SDP, 2)
	fresh := credentials.FindAllString(view.offer(&webrtc.OfferOptions{ICERestart: true}), 2)
	if len(fresh) != 2 || fresh[0] == old[0] {
		t.Fatalf("credentials %q after %q", fresh, old)
	}
	fragment := strings.Join(fresh, "\r\n") + "\r\n"
	const kind = "application/trickle-ice-sdpfrag"
	r := w.call(http.MethodPatch, view.url, fragment, "Content-Type", kind, "If-Match", "*")
	if r.status != http.StatusOK || r.header.Get("Content-Type") != kind || r.header.Get("ETag") == view.etag {
		t.Fatalf("restart: %d, ETag %s after %s: %s", r.status, r.header.Get("ETag"), view.etag, r.body)
	}
	if again := w.call(http.MethodPatch, view.url, fragment, "Content-Type", kind, "If-Match", "*"); again.body != r.body || again.header.Get("ETag") != r.header.Get("ETag") {
		t.Errorf("the same restart again: %d %s", again.status, again.body)
	}
	n := 0
	theirs := credentials.FindAllString(r.body, 2)
	view.accept(credentials.ReplaceAllStringFunc(view.answer, func(string) string { n++; return theirs[(n-1)%2] }))
	before, err := w.node.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.until("a path under the new credentials", func() bool {
		st, err := w.node.Stats(t.Context())
		return err == nil && st.Transport.Nominations > before.Transport.Nominations
	})
	view.sees(view.seen(webrtc.RTPCodecTypeVideo) + 10)

	for _, c := range []struct {
		what   string
		body   string
		header []string
		status int
	}{
		{"trickle", "a=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n", []string{"Content-Type", kind, "If-Match", r.header.Get("ETag")}, 204},
		{"one of several tags", fragment, []string{"Content-Type", kind, "If-Match", `"x", ` + r.header.Get("ETag")}, 204},
		{"old tag", fragment, []string{"Content-Type", kind, "If-Match", view.etag}, 412},
		{"weak tag", fragment, []string{"Content-Type", kind, "If-Match", "W/" + r.header.Get("ETag")}, 412},
		{"no tag", fragment, []string{"Content-Type", kind}, 428},
		{"no credentials", "a=end-of-candidates\r\n", []string{"Content-Type", kind, "If-Match", "*"}, 400},
		{"half of them", "a=ice-ufrag:abcd\r\n", []string{"Content-Type", kind, "If-Match", "*"}, 400},
		{"not a fragment", "v=0\r\n", []string{"Content-Type", kind, "If-Match", "*"}, 400},
		{"another type", fragment, []string{"Content-Type", "application/sdp", "If-Match", "*"}, 415},
		{"too large", strings.Repeat("a=x\r\n", 4000), []string{"Content-Type", kind, "If-Match", "*"}, 413},
	} {
		if r := w.call(http.MethodPatch, view.url, c.body, c.header...); r.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.what, r.status, c.status, r.body)
		}
	}
}

const offer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n" +
	"a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	other, err := w.svc.OpenMeeting(t.Context(), signaling.Caller{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(room string, view bool, life time.Duration) string {
		text, _, err := w.tokens.IssueStream(room, view, "Studio", life)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
	whip, whep := "/whip/"+w.room, "/whep/"+w.room
	sdp := []string{"Content-Type", "application/sdp"}
	with := func(more ...string) []string { return append(slices.Clone(sdp), more...) }
	for _, c := range []struct {
		what, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"a page to look at", "GET", whip, "", nil, 405, "bad_request"},
		{"its head", "HEAD", whep, "", nil, 405, ""},
		{"put", "PUT", whip, offer, sdp, 405, "bad_request"},
		{"get of a session", "GET", whip + "/x", "", nil, 405, "bad_request"},
		{"no such session", "DELETE", whip + "/x", "", nil, 404, "not_found"},
		{"no such path", "POST", whip + "/x/y", offer, sdp, 404, "not_found"},
		{"json", "POST", whip, "{}", []string{"Content-Type", "application/json"}, 415, "bad_request"},
		{"no type", "POST", whip, offer, nil, 415, "bad_request"},
		{"who wants json", "POST", whip, offer, with("Accept", "application/json, application/sdp;q=0"), 406, "bad_request"},
		{"no offer", "POST", whip, "", sdp, 400, "bad_request"},
		{"garbage", "POST", whep, "v=1", sdp, 400, "bad_request"},
		{"passive", "POST", whip, strings.Replace(offer, "actpass", "passive", 1), sdp, 400, "bad_request"},
		{"a codec of nobody", "POST", whip, strings.ReplaceAll(offer, "opus/48000/2", "speex/8000"), sdp, 400, "bad_request"},
		{"too large", "POST", whip, offer + strings.Repeat("a=x\r\n", 20000), sdp, 413, "too_large"},
		{"no such room", "POST", "/whip/zzz", offer, sdp, 404, "not_found"},
		{"a page of another site without a token", "POST", whip, offer, with("Origin", "https://evil.example"), 401, "unauthorized"},
		{"from behind a proxy without a token", "POST", whep, offer, with("X-Forwarded-For", "198.51.100.1"), 401, "unauthorized"},
		{"not a bearer", "POST", whip, offer, with("Authorization", "Basic eA=="), 400, "bad_request"},
		{"a bad token", "POST", whip, offer, with("Authorization", "Bearer x"), 401, "unauthorized"},
		{"a token of another room", "POST", whip, offer, with("Authorization", issue(other.Room, false, time.Hour)), 403, "forbidden"},
		{"an old token", "POST", whip, offer, with("Authorization", issue(w.room, false, -time.Hour)), 401, "token_expired"},
		{"to watch with a token to publish", "POST", whep, offer, with("Authorization", issue(w.room, false, time.Hour)), 401, "unauthorized"},
		{"to publish with a token to watch", "POST", whip, offer, with("Authorization", issue(w.room, true, time.Hour)), 401, "unauthorized"},
		{"a name that cannot be", "POST", whip + "?name=%00", offer, sdp, 400, "bad_request"},
		{"a long name", "POST", whip + "?name=" + strings.Repeat("x", 99), offer, sdp, 400, "bad_request"},
	} {
		r := w.call(c.method, c.path, c.body, c.header...)
		var p Problem
		if c.code != "" {
			if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %v in %s", c.what, err, r.body)
			}
		}
		if r.status != c.status || string(p.Code) != c.code || c.code != "" && (p.Status != c.status || p.Detail == "" || p.Title == "") {
			t.Errorf("%s: %d %s, want %d %s", c.what, r.status, r.body, c.status, c.code)
		}
		if r.status == 405 && !strings.Contains(r.header.Get("Allow"), "OPTIONS") {
			t.Errorf("%s: Allow %q", c.what, r.header.Get("Allow"))
		}
		if r.status == 401 && r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge", c.what)
		}
	}
	if st := w.svc.Stats(); st.Rooms != 0 || st.Viewers != 0 {
		t.Errorf("left behind: %+v", st)
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t, nil)
	issue := func(view bool, name string) string {
		text, _, err := w.tokens.IssueStream(w.room, view, name, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
	seat, err := w.svc.JoinToken(t.Context(), w.room, wire.TokenRequest{Name: "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	// From another site, so that nothing but the token counts.
	post := func(path, auth string) reply {
		t.Helper()
		r := w.call("POST", path, offer, "Content-Type", "application/sdp", "Origin", "https://studio.example", "Authorization", auth)
		if r.status != 201 || r.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(r.header.Get("Access-Control-Expose-Headers"), "Location") {
			t.Errorf("%s: %d %v %s", path, r.status, r.header, r.body)
		}
		return r
	}
	studio := issue(false, "Studio")
	first := post("/whip/"+w.room+"?name=Camera%203", issue(false, ""))
	second := post("/whip/"+w.room+"?name=Other", studio)
	post("/whip/"+w.room+"?name=Other", "Bearer "+w.host)
	post("/whip/"+w.room, "bearer "+seat.Token)
	post("/whep/"+w.room, issue(true, ""))
	post("/whep/"+w.room, "Bearer "+w.host)
	if got := w.names(); got != "Camera 3,Studio,Other,Ann,Broadcast" {
		t.Errorf("roster %s", got)
	}
	// A session is of who has made it.
	for _, r := range []reply{first, second} {
		if r := w.call("DELETE", r.header.Get("Location"), ""); r.status != 401 {
			t.Errorf("DELETE without a token: %d", r.status)
		}
	}
	if r := w.call("DELETE", first.header.Get("Location"), "", "Authorization", studio); r.status != 401 {
		t.Errorf("DELETE by another: %d", r.status)
	}
	if r := w.call("DELETE", second.header.Get("Location"), "", "Authorization", studio); r.status != 200 {
		t.Errorf("DELETE: %d %s", r.status, r.body)
	}
	if r := w.call("DELETE", strings.Replace(first.header.Get("Location"), "whip", "whep", 1), "", "Authorization", studio); r.status != 404 {
		t.Errorf("a URL of another kind: %d", r.status)
	}
}

func TestPreflight(t *testing.T) {
	w := newWorld(t, nil)
	for path, want := range map[string]string{"/whip/" + w.room: "POST, OPTIONS", "/whep/" + w.room: "POST, OPTIONS", "/whip/" + w.room + "/x": "PATCH, DELETE, OPTIONS"} {
		r := w.call("OPTIONS", path, "", "Origin", "https://studio.example", "Access-Control-Request-Method", "POST")
		if r.status != 204 || r.header.Get("Access-Control-Allow-Methods") != want || r.header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "If-Match") {
			t.Errorf("%s: %d %v", path, r.status, r.header)
		}
	}
}

type turnServer struct{}

func (turnServer) For(context.Context, signaling.Principal) ([]wire.ICEServer, error) {
	return []wire.ICEServer{{URLs: []string{"stun:198.18.0.1"}}, {URLs: []string{"turn:198.18.0.1?transport=tcp"}, Username: `a"b`, Credential: "c"}}, nil
}

func TestLinks(t *testing.T) {
	w := newWorld(t, func(_ *Config, c *signaling.Config) { c.ICE = turnServer{} })
	r := w.call("POST", "/whip/"+w.room, offer, "Content-Type", "application/sdp")
	want := []string{
		`<stun:198.18.0.1>; rel="ice-server"`,
		`<turn:198.18.0.1?transport=tcp>; rel="ice-server"; username="a\"b"; credential="c"; credential-type="password"`,
	}
	if diff := cmp.Diff(want, r.header.Values("Link")); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func TestLimitsOfAnAddress(t *testing.T) {
	var g guests
	g.init(Config{PerAddress: 2, OffersPerSecond: 1, OfferBurst: 3})
	at := time.Unix(0, 0)
	one, same, other := network("[2001:db8:1::1]:5"), network("[2001:db8:1::2]:6"), network("198.51.100.1:7")
	if one != same || one == other || network("127.0.0.1:1").IsValid() || network("[::1]:1").IsValid() || network("[::ffff:198.51.100.1]:9") != other {
		t.Errorf("networks %v %v %v", one, same, other)
	}
	for i, want := range []bool{true, true, true, false} {
		if wait, ok := g.offer(one, at); ok != want || !ok && wait <= 0 {
			t.Errorf("offer %d: %v, wait %v", i, ok, wait)
		}
	}
	if _, ok := g.offer(other, at); !ok {
		t.Error("another address suffers")
	}
	if _, ok := g.offer(one, at.Add(time.Second)); !ok {
		t.Error("a second later")
	}
	for i, want := range []bool{true, true, false} {
		if ok := g.enter(one); ok != want {
			t.Errorf("session %d: %v", i, ok)
		}
	}
	g.leave(same)
	if !g.enter(one) {
		t.Error("no room after one has left")
	}
	for i := range 4 * manyGuests {
		g.offer(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 32), at.Add(time.Duration(i)*time.Second))
	}
	if n := len(g.all); n > manyGuests+1 {
		t.Errorf("%d addresses are remembered", n)
	}
	if g.all[one] == nil {
		t.Error("one with sessions is forgotten")
	}
}

func TestLimitsOverHTTP(t *testing.T) {
	w := newWorld(t, nil)
	h := New(w.svc, Config{PerAddress: 1, OfferBurst: 3}, nil)
	text, _, err := w.tokens.IssueStream(w.room, false, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	post := func(body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/whip/"+w.room, strings.NewReader(body))
		r.RemoteAddr = "198.51.100.1:9"
		r.Header.Set("Content-Type", "application/sdp")
		r.Header.Set("Authorization", "Bearer "+text)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec
	}
	for i, want := range []int{400, 201, 429, 429} {
		body := offer
		if i == 0 {
			body = "no offer" // takes no session from its address
		}
		rec := post(body)
		if rec.Code != want {
			t.Errorf("offer %d: %d %s, want %d", i, rec.Code, rec.Body, want)
		}
		if i == 3 && rec.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}
