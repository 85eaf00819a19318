package turn_test

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/sotto-edge/sotto/turn"
	"github.com/sotto-edge/sotto/turn/auth"
	"github.com/sotto-edge/sotto/turn/policy"
)

const attrOrigin stun.AttrType = 0x802F

// TestRealms [C14]: a realm has users, peers and quotas of its own, and clients find theirs by address, server name, origin or by
// naming it.
func TestRealms(t *testing.T) {
	second := func(cfg *turn.Config) {
		cfg.Limits.UserAllocations = 2
		cfg.Realms = []turn.Realm{
			{
				Auth: authorityOf(t, auth.Config{
					Realm: "second.example", Secrets: []auth.Secret{auth.NewSecret("of the second")},
					Users: []auth.User{{Name: name, Password: auth.NewSecret("another one")}},
				}),
				Peers:  policy.NewPeers([]netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}, nil),
				Serves: []string{"turn.second.example", "https://second.example", "::1"},
				Limits: turn.Limits{Allocations: 3, UserAllocations: 2, UserBytes: 20000},
			},
			{Auth: authorityOf(t, auth.Config{Realm: "empty.example"}), Peers: policy.NewPeers(nil, nil)},
		}
	}
	s := serve(t, second)
	asked := func(c *client, setters ...stun.Setter) string {
		t.Helper()
		var r stun.Realm
		m := c.raw(build(t, stun.MethodAllocate, append(setters, wantUDP)...), patience)
		if m == nil || codeOf(m) != 401 || r.GetFrom(m) != nil {
			t.Fatalf("%v", m)
		}
		return r.String()
	}
	overTLS := func(serverName string) *client {
		conn, err := tls.Dial("tcp", s.tls.String(), &tls.Config{InsecureSkipVerify: true, ServerName: serverName})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c := dial(t, s.udp, name)
		c.conn = conn
		return c
	}
	for title, got := range map[string][2]string{
		"nothing":          {asked(dial(t, s.udp, name)), realm},
		"address":          {asked(dial(t, s.udp6, name)), "second.example"},
		"origin":           {asked(dial(t, s.udp, name), attr(attrOrigin, []byte("https://second.example")...)), "second.example"},
		"unknown origin":   {asked(dial(t, s.udp, name), attr(attrOrigin, []byte("https://third.example")...)), realm},
		"server name":      {asked(overTLS("turn.second.example")), "second.example"},
		"strange name":     {asked(overTLS("x.example")), realm},
		"its name":         {asked(dial(t, s.udp, name), stun.NewRealm("second.example")), "second.example"},
		"a name of no one": {asked(dial(t, s.udp, name), stun.NewRealm("nobody.example")), realm},
	} {
		if got[0] != got[1] {
			t.Errorf("by %s: %q, want %q", title, got[0], got[1])
		}
	}

	of := func(user, secret string) *client {
		c := dial(t, s.udp6, user)
		c.key = stun.NewLongTermIntegrity(user, "second.example", secret)
		return c
	}
	// Credentials of one realm are none in the other.
	if _, code := of(name, password).ask(stun.MethodAllocate, wantUDP); code != 401 {
		t.Errorf("a password of the first realm: %d", code)
	}
	if _, code := of("bob", password).ask(stun.MethodAllocate, wantUDP); code != 401 {
		t.Errorf("a user of the first realm: %d", code)
	}
	// Quotas are counted apart, though the users have one name.
	for range 2 {
		dial(t, s.udp, name).allocate()
	}
	first := of(name, "another one")
	first.allocate()
	of(name, "another one").allocate()
	if _, code := of(name, "another one").ask(stun.MethodAllocate, wantUDP); code != 486 {
		t.Errorf("one too many of a user: %d", code)
	}
	issued, err := authorityOf(t, auth.Config{Realm: "second.example", Secrets: []auth.Secret{auth.NewSecret("of the second")}}).Issue("carol", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	of(issued.Username, issued.Password).allocate()
	if _, code := of(issued.Username, issued.Password).ask(stun.MethodAllocate, wantUDP); code != 486 {
		t.Errorf("one too many of the realm: %d", code)
	}
	dial(t, s.udp, "bob").allocate() // the other realm has room

	// Peers are those of the realm.
	for text, want := range map[string]int{"127.0.0.9:5": 0, "127.0.0.1:5": 403} {
		if _, code := first.ask(stun.MethodCreatePermission, peer(netip.MustParseAddrPort(text))); code != want {
			t.Errorf("%s in the second realm: %d", text, code)
		}
	}
	// An allocation is its realm's: the same user name of the other one does not refresh it.
	stranger := *first
	stranger.key = stun.NewLongTermIntegrity(name, realm, password)
	stranger.nonce, stranger.realm = nil, nil
	m := stranger.raw(build(t, stun.MethodRefresh, stun.NewRealm(realm)), patience)
	if err := m.Parse(&stranger.nonce, &stranger.realm); err != nil || stranger.realm.String() != realm {
		t.Fatal(err, stranger.realm)
	}
	if _, code := stranger.ask(stun.MethodRefresh); code != 441 {
		t.Errorf("the user of the other realm: %d", code)
	}
	for _, a := range s.Allocations() {
		if (a.Realm == "second.example") != a.Server.Addr().Is6() {
			t.Errorf("%+v", a)
		}
	}

	// Bandwidth is the realm's, too.
	far, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.9:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	to := far.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, code := first.ask(stun.MethodChannelBind, channelNumber(0x4001), peer(to)); code != 0 {
		t.Fatal(code)
	}
	frame := make([]byte, 1004)
	binary.BigEndian.PutUint32(frame, 0x40010000|1000)
	for range 60 {
		if _, err := first.conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	if _, code := first.ask(stun.MethodRefresh); code != 0 { // they have been read before
		t.Fatal(code)
	}
	if got := s.Stats(); got.Up.Packets < 20 || got.Up.Packets > 40 || got.Up.Packets+got.Dropped.OverBandwidth != 60 {
		t.Errorf("%d relayed, %d dropped", got.Up.Packets, got.Dropped.OverBandwidth)
	}
}

// TestRealmsMustDiffer: two of one name are a mistake.
func TestRealmsMustDiffer(t *testing.T) {
	twice := turn.Realm{Auth: authority(t), Peers: policy.NewPeers(nil, nil)}
	if _, err := turn.New(turn.Config{Auth: authority(t), Peers: policy.NewPeers(nil, nil), Relay4: loopback4, Realms: []turn.Realm{twice}}); err == nil {
		t.Error("no error")
	}
}
