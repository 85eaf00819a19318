package audit_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/audit"
)

// header is what comes before the structured data, RFC 5424 §6: with PRI, version, TIMESTAMP, HOSTNAME, APP-NAME, PROCID, MSGID.
var header = regexp.MustCompile(`^<(\d{1,3})>1 (\S{20,32}) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) \[(.*)\]$`)

// parse reads a message by the grammar of RFC 5424 §6, and not by what AppendSyslog does.
func parse(message string) (priority int, at time.Time, data map[string]string, err error) {
	m := header.FindStringSubmatch(message)
	if m == nil {
		return 0, at, nil, fmt.Errorf("no message of syslog: %q", message)
	}
	if priority, err = strconv.Atoi(m[1]); err != nil || priority > 191 {
		return 0, at, nil, fmt.Errorf("priority %s", m[1])
	}
	if at, err = time.Parse(time.RFC3339Nano, m[2]); err != nil {
		return 0, at, nil, err
	}
	id, rest, _ := strings.Cut(m[7], " ")
	data = map[string]string{"": id}
	for rest != "" {
		name, value, ok := strings.Cut(rest, `="`)
		if !ok {
			return 0, at, nil, fmt.Errorf("a parameter: %q", rest)
		}
		var b strings.Builder
		i := 0
		for ; i < len(value) && value[i] != '"'; i++ {
			if value[i] == '\\' && i+1 < len(value) && strings.IndexByte(`"\]`, value[i+1]) >= 0 {
				i++
			} else if value[i] == ']' {
				return 0, at, nil, fmt.Errorf("a bracket without its escape: %q", value)
			}
			b.WriteByte(value[i])
		}
		if i == len(value) {
			return 0, at, nil, fmt.Errorf("a value without an end: %q", value)
		}
		data[name] = b.String()
		rest = strings.TrimPrefix(value[i+1:], " ")
	}
	return priority, at, data, nil
}

func TestSyslogMessage(t *testing.T) {
	r := audit.Row{
		Entry: audit.Entry{Org: "a.example", Event: "key.release", Outcome: audit.Refused, Reason: `not a "member" [of it] \`, Actor: "漢字", Object: "kms://a/keys/1"},
		Seq:   7, At: time.Date(2026, 11, 24, 9, 0, 0, 123456000, time.UTC), Hash: [32]byte{0xab},
	}
	priority, at, data, err := parse(string(audit.AppendSyslog(nil, r, "kms 1.example", 32473)))
	if err != nil || priority != 13*8+4 || !at.Equal(r.At) {
		t.Errorf("priority %d, %v, %v", priority, at, err)
	}
	if d := cmp.Diff(map[string]string{
		"": "audit@32473", "org": "a.example", "seq": "7", "time": "1795510800123456", "outcome": "refused", "reason": r.Reason, "actor": r.Actor, "object": r.Object, "hash": hex.EncodeToString(r.Hash[:]),
	}, data); d != "" {
		t.Errorf("structured data (-want +got):\n%s", d)
	}
}

func FuzzSyslogMessage(f *testing.F) {
	f.Add("a.example", "key.release", `"\]`, "漢")
	f.Fuzz(func(t *testing.T, org, event, reason, actor string) {
		r := audit.Row{Entry: audit.Entry{Org: org, Event: event, Reason: reason, Actor: actor}}
		text := string(audit.AppendSyslog(nil, r, event, 1))
		if strings.ContainsAny(org+reason+actor, "\n") { // a value may have them; the expression of this test does not
			return
		}
		_, _, data, err := parse(text)
		if err != nil || data["reason"] != strings.ToValidUTF8(reason, "\ufffd") && strings.ToValidUTF8(reason, "") == reason {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// receiver is a syslog server over TLS.
type receiver struct {
	listener net.Listener
	got      chan map[string]string

	mu    sync.Mutex
	conns []net.Conn
}

// stop ends it with its connections.
func (r *receiver) stop(t *testing.T) {
	t.Helper()
	if err := r.listener.Close(); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close() // it may be closed
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func receive(t *testing.T, address string, cert tls.Certificate) *receiver {
	t.Helper()
	l, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{listener: l, got: make(chan map[string]string, 10000)}
	t.Cleanup(func() { _ = l.Close() }) // some tests have closed it
	go func() {                         // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, conn)
			r.mu.Unlock()
			go r.read(conn) // ends with the connection
		}
	}()
	return r
}

func (r *receiver) read(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		length, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			r.got <- map[string]string{"error": err.Error()}
			return
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(in, text); err != nil {
			return
		}
		_, _, data, err := parse(string(text))
		if err != nil {
			data = map[string]string{"error": err.Error()}
		}
		r.got <- data
	}
}

// seqs waits until row n of a chain has come, and says which came.
func (r *receiver) seqs(t *testing.T, org string, n int) (out []string) {
	t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case data := <-r.got:
			if data["error"] != "" {
				t.Fatal(data["error"])
			}
			if data["org"] == org {
				out = append(out, data["seq"])
				if data["seq"] == strconv.Itoa(n) {
					return out
				}
			}
		case <-timeout.C:
			t.Fatalf("row %d of %s has not come: %v", n, org, out)
		}
	}
}

// Rows reach the organisation's syslog in their order; while it is away nothing waits for it, readiness tells after a while, and all of it
// comes later (row AU1).
func TestSyslogAwayAndBack(t *testing.T) {
	s, _, l := start(t, storetest.SQLite.Fresh(t))
	cert, pool := certificate(t)
	first := receive(t, "127.0.0.1:0", cert)
	address := first.listener.Addr().String()
	var seconds atomic.Int64
	sink := audit.StartSink(audit.SinkConfig{
		Store: s, Address: address, TLS: &tls.Config{RootCAs: pool}, Host: "kms.a.example", Every: 5 * time.Millisecond, Patience: time.Minute,
		Now: func() time.Time { return time.Unix(seconds.Load(), 0) },
	})
	defer func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}()
	appendRows(t, s, l, "a", 150)
	sink.Wake()
	got := first.seqs(t, "a", 150)
	if len(got) != 150 || got[0] != "1" {
		t.Errorf("%d rows came, the first is %s", len(got), got[0])
	}
	if err := sink.Ready(); err != nil {
		t.Error(err)
	}

	// It goes: its certificate is that of a stranger now, who gets nothing.
	first.stop(t)
	strange, _ := certificate(t)
	stranger := receive(t, address, strange)
	for begin := time.Now(); sink.Ready() == nil && time.Since(begin) < 30*time.Second; seconds.Add(100) {
		appendRows(t, s, l, "a", 1) // nobody waits for the receiver
	}
	if err := sink.Ready(); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("readiness: %v", err)
	}
	if len(stranger.got) > 0 {
		t.Error("a stranger got rows")
	}
	stranger.stop(t)
	n := len(rows(t, s, "a"))
	second := receive(t, address, cert)
	got = second.seqs(t, "a", n)
	seen := map[string]bool{}
	for _, seq := range got {
		seen[seq] = true
	}
	for seq := 151; seq <= n; seq++ {
		if !seen[strconv.Itoa(seq)] {
			t.Errorf("row %d never came", seq)
		}
	}
	for range 1000 {
		if sink.Ready() == nil {
			break
		}
		appendRows(t, s, l, "b", 1)
	}
	if err := sink.Ready(); err != nil {
		t.Errorf("it is back: %v", err)
	}
}
