package sfu

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/bench/internal/terminal"
)

// build makes the binary whose `serve` is measured.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sotto")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/sotto").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// The bench runs the real appliance as its child, and finds every packet at every receiver.
func TestRun(t *testing.T) {
	binary := build(t)
	page := filepath.Join(t.TempDir(), "report.html")
	for name, c := range map[string]Command{
		"one publisher": {
			Publishers: 1, Receivers: 5, VideoBitrate: 1_000_000, FPS: 30, Audio: true, Duration: 2 * time.Second, Joining: 4, SRTP: "gcm",
			JSON: true, Report: page, MaxLoss: 0,
		},
		"a meeting over CM": {
			Publishers: 4, Receivers: 2, VideoBitrate: 300_000, FPS: 15, Audio: true, Paced: true, Duration: time.Second, Joining: 2,
			SRTP: "cm", JSON: true, MaxLoss: 0,
		},
		"sound": {Publishers: 1, Receivers: 2, Audio: true, Duration: time.Second, Joining: 1, SRTP: "gcm", JSON: true, MaxLoss: 0},
	} {
		if testing.Short() && name != "one publisher" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c.Server = binary
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			if err := c.Run(terminal.Terminal{Out: &out, Err: &errs}); err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			if errs.Len() > 0 {
				t.Errorf("progress beside -json: %s", errs.String())
			}
			var got map[string]any
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
				t.Fatalf("%v: not one object on one line: %s", err, out.String())
			}
			for _, figure := range []string{
				"server_cpu_ns_per_packet", "packets_forwarded_per_second", "latency_seconds_p50", "latency_seconds_p99", "rss_bytes",
				"join_seconds_p50", "join_seconds_p99",
			} {
				few := figure == "server_cpu_ns_per_packet" && name == "sound" // less than /proc counts
				if v, ok := got[figure].(float64); !ok || v < 0 || v == 0 && !few {
					t.Errorf("%s is %v", figure, got[figure])
				}
			}
			for _, figure := range []string{"loss_ratio", "packets_lost"} {
				if v, ok := got[figure].(float64); !ok || v != 0 {
					t.Errorf("%s is %v", figure, got[figure])
				}
			}
			sent, forwarded := got["packets_sent"].(float64), got["packets_forwarded"].(float64)
			// Senders and receivers are not read at one moment, and a busy machine makes more of that.
			if want := sent * float64(c.Receivers); forwarded < want/2 || forwarded > 2*want {
				t.Errorf("%.0f packets forwarded of %.0f for each of %d receivers", forwarded, sent, c.Receivers)
			}
		})
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(text), "<svg") || strings.Contains(string(text), "NaN") {
		t.Errorf("report of %d bytes: %v", len(text), err)
	}
}

// A server that does not come up is reported with what it says.
func TestServerFails(t *testing.T) {
	c := Command{Publishers: 1, Receivers: 1, Audio: true, Duration: time.Second, Joining: 1, SRTP: "gcm", Server: "/bin/false"}
	err := c.Run(terminal.Terminal{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}})
	if err == nil || !strings.Contains(err.Error(), "the server ended") {
		t.Errorf("%v", err)
	}
}
