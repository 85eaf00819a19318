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

	"github.com/sotto-edge/sotto/control/admin"
)

// TestRelay [A4, N4]: an appliance that relays; participants get credentials when they join, the operator makes some, and with them a
// client reaches the media port and nothing else of the machine.
func TestRelay(t *testing.T) {
	r := start(t, t.TempDir(), anyPorts+"public_addresses = [\"127.0.0.1\"]\n[turn]\nenabled = true\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\nrelay_addresses = [\"127.0.0.1\"]\n"+
		"[[turn.realms]]\nname = \"second.example\"\nserves = [\"https://second.example\"]\nusers = [\"dora:her password\"]\n")
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
	// It went there within the process.
	_, _, metrics := r.do(t, http.MethodGet, r.Admin+"/metrics", "")
	for _, line := range []string{`sotto_sfu_transport_plain_answered_total 1`, `sotto_sfu_socket_received_datagrams_total 0`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(metrics) {
			t.Errorf("no %q in the metrics", line)
		}
	}
	// The media port is one of the relay's, too.
	shared, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	asks := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	if _, err := shared.Write(asks.Raw); err != nil {
		t.Fatal(err)
	}
	_ = shared.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err = shared.Read(b); err != nil {
		t.Fatal(err)
	}
	answer = &stun.Message{Raw: b[:n]}
	var code401 stun.ErrorCodeAttribute
	if err := answer.Decode(); err != nil || answer.TransactionID != asks.TransactionID || code401.GetFrom(answer) != nil || code401.Code != 401 {
		t.Errorf("%v from the media port: %v", answer, err)
	}
	// Another port of the machine is none of the relay's.
	adminAt := netip.MustParseAddrPort(strings.TrimPrefix(r.Admin, "https://"))
	if err := c.CreatePermission(net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:1"))); err == nil {
		t.Error("a permission for another address of the machine")
	}
	if _, err := relay.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(adminAt)); err != nil {
		t.Fatal(err)
	}

	// Another realm has users of its own.
	second, err := net.Dial("udp", at[1])
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, want := range []int{401, 0} {
		transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
		setters := []stun.Setter{stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport, stun.RawAttribute{Type: 0x802F, Value: []byte("https://second.example")}}
		if want == 0 {
			var nonce stun.Nonce
			var realm stun.Realm
			if err := answer.Parse(&nonce, &realm); err != nil || realm.String() != "second.example" {
				t.Fatal(realm, err)
			}
			setters = append(setters, stun.NewUsername("dora"), nonce, realm, stun.NewLongTermIntegrity("dora", "second.example", "her password"))
		}
		if _, err := second.Write(stun.MustBuild(setters...).Raw); err != nil {
			t.Fatal(err)
		}
		_ = second.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := second.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		answer = &stun.Message{Raw: append([]byte(nil), b[:n]...)}
		var code stun.ErrorCodeAttribute
		if err := answer.Decode(); err != nil || (code.GetFrom(answer) == nil) != (want != 0) || int(code.Code) != want {
			t.Fatalf("%v, %v, want %d", answer, err, want)
		}
	}

	exit, out, problem = r.ctl(t, "turn", "list", "-json")
	var listed struct{ Allocations []admin.Allocation }
	if err := json.Unmarshal([]byte(out), &listed); err != nil || exit != 0 || len(listed.Allocations) != 2 || listed.Allocations[1].Realm != "second.example" {
		t.Fatalf("%d %s %s", exit, out, problem)
	}
	a := listed.Allocations[0]
	if a.User != "alice" || a.Client != conn.LocalAddr().String() || a.Relayed != relay.LocalAddr().String() || a.Server != at[1] ||
		len(a.Permissions) != 1 || a.Relays[0].UpBytes == 0 || a.Relays[0].DownBytes == 0 || time.Until(a.Expires) < 5*time.Minute {
		t.Errorf("%+v", a)
	}
	for _, args := range [][]string{{"list"}, {"get", a.ID}} {
		if exit, out, problem := r.ctl(t, append([]string{"turn"}, args...)...); exit != 0 || !strings.Contains(out, `"alice"`) || !strings.Contains(out, a.Relayed) {
			t.Errorf("%v: %d %s %s", args, exit, out, problem)
		}
	}
	if exit, _, problem := r.ctl(t, "turn", "get", "a_nothing"); exit == 0 || !strings.Contains(problem, "no allocation a_nothing") {
		t.Errorf("%d %s", exit, problem)
	}

	_, _, metrics = r.do(t, http.MethodGet, r.Admin+"/metrics", "")
	for _, line := range []string{`sotto_turn_engine{engine="batch"} 1`, "sotto_turn_allocations_udp 2", "sotto_turn_requests_peer_forbidden_total [1-9]"} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(metrics) {
			t.Errorf("no %q in the metrics", line)
		}
	}

	// The operator ends it: its port is closed, and the client has nothing to refresh.
	if exit, out, problem := r.ctl(t, "turn", "end", a.ID); exit != 0 || out != "ended\n" {
		t.Errorf("%d %s %s", exit, out, problem)
	}
	again, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(a.Relayed)))
	if err != nil {
		t.Errorf("the relayed address is still open: %v", err)
	} else {
		_ = again.Close()
	}
	if err := c.CreatePermission(net.UDPAddrFromAddrPort(to)); err == nil || !strings.Contains(err.Error(), "437") {
		t.Errorf("a permission without an allocation: %v", err)
	}
	if exit, _, problem := r.ctl(t, "turn", "end", a.ID); exit == 0 || !strings.Contains(problem, "not_found") {
		t.Errorf("%d %s", exit, problem)
	}
	if exit, _, problem := r.ctl(t, "turn", "end", listed.Allocations[1].ID); exit != 0 {
		t.Error(problem)
	}
	if _, out, _ := r.ctl(t, "turn", "list"); out != "nothing is relayed\n" {
		t.Error(out)
	}
}
