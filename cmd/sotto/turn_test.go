package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

// TestRelay [A4]: an appliance that relays; participants get credentials when they join, the operator makes some, and with them a
// client reaches the media port and nothing else of the machine.
func TestRelay(t *testing.T) {
	r := start(t, t.TempDir(), anyPorts+"public_addresses = [\"127.0.0.1\"]\n[turn]\nenabled = true\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\nrelay_addresses = [\"127.0.0.1\"]\n")
	code, _, body := r.do(t, http.MethodPost, r.URL+"/api/v1/meetings", "")
	var meeting struct{ Room, HostToken string }
	if err := json.Unmarshal([]byte(body), &meeting); err != nil || code/100 != 2 {
		t.Fatalf("%d %s", code, body)
	}
	_, _, seat := r.do(t, http.MethodPost, r.URL+"/api/v1/meetings/"+meeting.Room+"/token", "{}")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(seat), &token); err != nil {
		t.Fatal(seat)
	}
	_, joined := r.socket(t, fmt.Sprintf(`{"id":1,"type":"join","version":1,"token":%q,"name":"Ann"}`, token.Token))
	at := regexp.MustCompile(`"turn:(127\.0\.0\.1:\d+)\?transport=udp"`).FindStringSubmatch(joined)
	if at == nil || strings.Contains(joined, "turns:") || !strings.Contains(joined, `"credential":"`) {
		t.Fatalf("no relay, or one that browsers do not take, in %s", joined)
	}

	exit, out, problem := r.ctl(t, "turn", "credentials", "-json", "-user", "alice")
	var issued struct{ Username, Credential string }
	if err := json.Unmarshal([]byte(out), &issued); err != nil || exit != 0 {
		t.Fatalf("%d %s %s", exit, out, problem)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := pion.NewClient(&pion.ClientConfig{
		TURNServerAddr: at[1], STUNServerAddr: at[1], Conn: conn, Username: issued.Username, Password: issued.Credential,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	relay, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()

	// The media port answers a Binding request through the relay, with the relayed address.
	media := netip.MustParseAddrPort(r.Media)
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), media.Port())
	question := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	if _, err := relay.WriteTo(question.Raw, net.UDPAddrFromAddrPort(to)); err != nil {
		t.Fatal(err)
	}
	if err := relay.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1500)
	n, _, err := relay.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	answer := &stun.Message{Raw: b[:n]}
	var seen stun.XORMappedAddress
	if err := answer.Decode(); err != nil {
		t.Fatal(err)
	}
	if err := seen.GetFrom(answer); err != nil || seen.String() != relay.LocalAddr().String() {
		t.Errorf("the media port saw %s, relayed from %s: %v", seen, relay.LocalAddr(), err)
	}
	// Another port of the machine is none of the relay's.
	admin := netip.MustParseAddrPort(strings.TrimPrefix(r.Admin, "https://"))
	if err := c.CreatePermission(net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:1"))); err == nil {
		t.Error("a permission for another address of the machine")
	}
	if _, err := relay.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(admin)); err != nil {
		t.Fatal(err)
	}

	_, _, metrics := r.do(t, http.MethodGet, r.Admin+"/metrics", "")
	for _, line := range []string{`sotto_turn_engine{engine="none"} 1`, "sotto_turn_allocations_udp 1", "sotto_turn_requests_peer_forbidden_total [1-9]"} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(metrics) {
			t.Errorf("no %q in the metrics", line)
		}
	}
}
