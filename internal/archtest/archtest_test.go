package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// loadRepository parses the real tree once for all tests that look at it.
func loadRepository(t *testing.T) (fs.FS, []*File) {
	t.Helper()
	tree := os.DirFS(root)
	files, err := Load(tree)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found")
	}
	return tree, files
}

func report(t *testing.T, findings []Finding) {
	t.Helper()
	for _, f := range findings {
		t.Error(f)
	}
}

func TestDirectionOfRepository(t *testing.T) {
	_, files := loadRepository(t)
	report(t, Direction(files))
}

func TestPacketPathOfRepository(t *testing.T) {
	_, files := loadRepository(t)
	report(t, PacketPath(files))
}

func TestHabitsOfRepository(t *testing.T) {
	_, files := loadRepository(t)
	report(t, Habits(files))
}

func TestFeaturesOfRepository(t *testing.T) {
	tree, files := loadRepository(t)
	findings, err := Features(tree, "docs/features.md", files)
	if err != nil {
		t.Fatal(err)
	}
	report(t, findings)
}

// The mission lives beside the repository, not in it; where it is at hand,
// the list of rows must be the mission's.
func TestFeaturesListIsTheMission(t *testing.T) {
	mission, err := os.ReadFile(filepath.Join(root, "..", "shared", "design", "mission.md"))
	if err != nil {
		t.Skip("the mission is not beside this checkout")
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "features.md"))
	if err != nil {
		t.Fatal(err)
	}
	ids, _, err := ParseFeatures(page)
	if err != nil {
		t.Fatal(err)
	}
	want := MissionIDs(mission)
	sort.Strings(ids)
	sort.Strings(want)
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Errorf("rows (-mission +page):\n%s", diff)
	}
}

// parse loads a tree of one line of path and the rest as source, per entry.
func parse(t *testing.T, sources map[string]string) []*File {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range sources {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	files, err := Load(tree)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func importing(pkgs ...string) string {
	var b strings.Builder
	b.WriteString("package p\n")
	for _, p := range pkgs {
		b.WriteString("import _ \"" + p + "\"\n")
	}
	return b.String()
}

func TestDirection(t *testing.T) {
	const m = Module + "/"
	tests := []struct {
		name, file, imports string
		want                string // part of the finding; "" allowed
	}{
		{"anyone may import internal", "turn/relay/a.go", m + "internal/udp", ""},
		{"internal may import internal", "internal/rtp/a.go", m + "internal/pktbuf", ""},
		{"internal knows no domain", "internal/rtp/a.go", m + "sfu", "internal knows no domain"},
		{"cmd wires", "cmd/sotto/a.go", m + "signaling/ws", ""},
		{"cmd embeds the web client", "cmd/sotto/a.go", m + "web", ""},
		{"cmd runs benches", "cmd/sotto/a.go", m + "bench", ""},
		{"bench may import anyone", "bench/a.go", m + "sfu", ""},
		{"bench uses the client", "bench/sfu/a.go", m + "client", ""},
		{"client may import anyone", "client/a.go", m + "signaling/wire", ""},
		{"nobody imports cmd", "bench/a.go", m + "cmd/sotto", "nothing imports cmd"},
		{"web only from cmd", "signaling/ws/a.go", m + "web", "only cmd may"},
		{"web not even from bench", "bench/a.go", m + "web", "only cmd may"},
		{"bench only from cmd", "sfu/a.go", m + "bench", "only cmd may"},
		{"client not from a domain", "sfu/a.go", m + "client", "no such edge"},
		{"client from a test", "sfu/a_test.go", m + "client", ""},
		{"transport to perc", "sfu/transport/a.go", m + "perc/srtp", ""},
		{"handshake to perc", "sfu/transport/handshake/a.go", m + "perc/srtp", ""},
		{"forward not to perc", "sfu/forward/a.go", m + "perc/srtp", "no such edge"},
		{"a name that only starts alike", "sfu/transporter/a.go", m + "perc/srtp", "no such edge"},
		{"relay to the kernel", "turn/relay/a.go", m + "bpf", ""},
		{"the TURN server not to the kernel", "turn/a.go", m + "bpf", "no such edge"},
		{"signaling to sfu", "signaling/sdp/a.go", m + "sfu", ""},
		{"signaling not to parts of sfu", "signaling/a.go", m + "sfu/rtcp", "no such edge"},
		{"sfu not to signaling", "sfu/a.go", m + "signaling", "no such edge"},
		{"signaling not to kms", "signaling/ws/a.go", m + "kms/wire", "no such edge"},
		{"kms verifies tokens", "kms/a.go", m + "internal/token", ""},
		{"kms not to who makes tokens", "kms/a.go", m + "control/identity", "no such edge"},
		{"not in tests of the kms either", "kms/keyring/a_test.go", m + "control/identity", "no such edge"},
		{"nor the other way", "control/identity/a.go", m + "kms/wire", "no such edge"},
		{"the client speaks to the kms", "client/kms/a.go", m + "kms/channel", ""},
		{"control not to signaling", "control/admin/a.go", m + "signaling", "no such edge"},
		{"not in tests either", "control/admin/a_test.go", m + "signaling", "no such edge"},
		{"root to part", "sfu/a.go", m + "sfu/forward", ""},
		{"part to part", "sfu/forward/a.go", m + "sfu/history", ""},
		{"part to root", "sfu/forward/a.go", m + "sfu", "imports its root"},
		{"front door to its use-cases", "signaling/ws/a.go", m + "signaling", ""},
		{"other part of signaling to root", "signaling/sdp/a.go", m + "signaling", "imports its root"},
		{"deep part to root", "sfu/transport/handshake/a.go", m + "sfu", "imports its root"},
		{"deep part to its parent", "sfu/transport/handshake/a.go", m + "sfu/transport", ""},
		{"unknown domain", "util/a.go", "os", "no domain"},
		{"browser stack in the server", "sfu/a.go", "github.com/pion/webrtc/v4", "only client, bench and tests"},
		{"browser stack in a test", "sfu/a_test.go", "github.com/pion/webrtc/v4", ""},
		{"browser stack in the client", "client/a.go", "github.com/pion/webrtc/v4", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, Direction(parse(t, map[string]string{tt.file: importing(tt.imports)})), tt.want)
		})
	}
}

// expect wants one finding with the given part, or none when it is empty.
func expect(t *testing.T, got []Finding, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("found %v, want nothing", got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), want)):
		t.Errorf("found %v, want one finding with %q", got, want)
	}
}

func TestPacketPath(t *testing.T) {
	tests := []struct {
		name, file, source string
		want               string
	}{
		{"clean", "sfu/forward/a.go", "package p\nimport \"net/netip\"\nvar a netip.AddrPort", ""},
		{"slog", "sfu/forward/a.go", importing("log/slog"), "a.go:2: imports log/slog"},
		{"log", "internal/udp/a.go", importing("log"), "imports log"},
		{"fmt", "perc/srtp/a.go", importing("fmt"), "imports fmt"},
		{"fmt under a build tag", "internal/udp/a_darwin.go", "//go:build darwin\n\n" + importing("fmt"), "imports fmt"},
		{"fmt in a test", "perc/srtp/a_test.go", importing("fmt"), ""},
		{"fmt off the path", "sfu/transport/handshake/a.go", importing("fmt"), ""},
		{"net.Addr", "internal/stun/a.go", "package p\nimport \"net\"\nfunc f(a net.Addr) {}", "a.go:3: net.Addr"},
		{"net.Addr renamed", "internal/stun/a.go", "package p\nimport n \"net\"\nvar a n.Addr", "net.Addr"},
		{"net by a dot", "internal/stun/a.go", "package p\nimport . \"net\"\nvar a Addr", "by a dot"},
		{"another field Addr", "internal/stun/a.go", "package p\nimport \"net\"\nvar _ net.Conn\ntype c struct{ Addr int }\nvar x = c{}.Addr", ""},
		{"time.Now", "sfu/history/a.go", "package p\nimport \"time\"\nvar t = time.Now()", "time.Now"},
		{"time.Now as a value", "sfu/history/a.go", "package p\nimport \"time\"\nvar clock = time.Now", "time.Now"},
		{"time.Since", "sfu/rtcp/a.go", "package p\nimport \"time\"\nvar d = time.Since(time.Time{})", "time.Since"},
		{"time.Until", "sfu/rtcp/a.go", "package p\nimport \"time\"\nvar d = time.Until(time.Time{})", "time.Until"},
		{"a duration", "sfu/rtcp/a.go", "package p\nimport \"time\"\nconst d = time.Second", ""},
		{"go statement", "sfu/speaker/a.go", "package p\nfunc f() {\n\tgo f()\n}", "a.go:3: go statement"},
		{"go statement off the path", "sfu/a.go", "package p\nfunc f() { go f() }", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, PacketPath(parse(t, map[string]string{tt.file: tt.source})), tt.want)
		})
	}
}

func TestHabits(t *testing.T) {
	tests := []struct {
		name, file, source string
		want               string
	}{
		{"clean", "sfu/a.go", "package p // RFC 8656 §12.4 and RFC 3550\n", ""},
		{"work put off", "sfu/a.go", "package p // TO" + "DO: later\n", "comment has TO"},
		{"linter told off", "sfu/a.go", "package p\nvar x = 1 //no" + "lint\n", "comment has //no"},
		{"citation", "sfu/a.go", "package p // see RFC 8656, sec" + "tion 12.4\n", "citation"},
		{"citation with a gap", "sfu/a.go", "package p // see RFC" + "8656\n", "citation"},
		{"long", "sfu/a.go", "package p\n" + strings.Repeat("\n", longest), "split what passes"},
		{"long but generated", "sfu/a.go", "// Code generated by x. DO NOT EDIT.\npackage p\n" + strings.Repeat("\n", longest), ""},
		{"sleeping test", "sfu/a_test.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep in a test"},
		{"sleeping in a bubble", "sfu/a_test.go", "package p\nimport \"time\"\nimport _ \"testing/synctest\"\nfunc f() { time.Sleep(1) }\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, Habits(parse(t, map[string]string{tt.file: tt.source})), tt.want)
		})
	}
}

func TestFeatures(t *testing.T) {
	const goTests = `package p

// TestNamed shows row A1.
func TestNamed(t *testing.T) { f() }

func TestInBody(t *testing.T) {
	f() // A1
}

func TestOther(t *testing.T) { f("A12") }

// TestSkipped shows A1.
func TestSkipped(t *testing.T) {
	t.Skip("later")
}

// TestSometimes shows A1.
func TestSometimes(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
}

func Test_A1(t *testing.T) { f() }
`
	const script = `
// Shows A1.
test('pictures move', async () => {
  await go();
});

test("A1: tones", async () => {});

test('nothing', async () => {});

// For A1, some day.
test.skip('later', () => {});
`
	tests := []struct {
		name, rows string
		want       string
	}{
		{"open", "| A1 | x | open |", ""},
		{"named in the comment", "| A1 | x | `sfu:TestNamed` |", ""},
		{"named in the body", "| A1 | x | `sfu:TestInBody` |", ""},
		{"named in the name", "| A1 | x | `sfu:Test_A1` |", ""},
		{"by file", "| A1 | x | `sfu/a_test.go:TestNamed` |", ""},
		{"several", "| A1 | x | `sfu:TestNamed`, `web/e2e/a.mjs:pictures move` |", ""},
		{"skipped in a branch", "| A1 | x | `sfu:TestSometimes` |", ""},
		{"names another row only", "| A1 | x | `sfu:TestOther` |", "does not name the row"},
		{"skipped", "| A1 | x | `sfu:TestSkipped` |", "is skipped"},
		{"no such test", "| A1 | x | `sfu:TestNone` |", "does not exist"},
		{"no such folder", "| A1 | x | `turn:TestNamed` |", "does not exist"},
		{"not a test file", "| A1 | x | `sfu:helper` |", "does not exist"},
		{"script, by comment", "| A1 | x | `web/e2e/a.mjs:pictures move` |", ""},
		{"script, by title", "| A1 | x | `web/e2e/a.mjs:A1: tones` |", ""},
		{"script, another's comment", "| A1 | x | `web/e2e/a.mjs:nothing` |", "does not name the row"},
		{"script, skipped", "| A1 | x | `web/e2e/a.mjs:later` |", "is skipped"},
		{"script, no such title", "| A1 | x | `web/e2e/a.mjs:gone` |", "does not exist"},
		{"script, no such file", "| A1 | x | `web/e2e/b.mjs:gone` |", "file that does not exist"},
		{"row missing", "", "row A1 is missing"},
		{"row twice", "| A1 | x | open |\n| A1 | x | open |", "stands twice"},
		{"row not listed", "| A1 | x | open |\n| B7 | x | open |", "not in the list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{
				"sfu/a_test.go": {Data: []byte(goTests)},
				"sfu/a.go":      {Data: []byte("package p\nfunc helper() {}\n")},
				"web/e2e/a.mjs": {Data: []byte(script)},
				"features.md":   {Data: []byte("Rows: A1–1.\n\n| row | statement | shown by |\n|---|---|---|\n" + tt.rows + "\n")},
			}
			files, err := Load(tree)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Features(tree, "features.md", files)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, got, tt.want)
		})
	}
}

func TestFeaturesRefusesWhatItCannotRead(t *testing.T) {
	for _, page := range []string{
		"| A1 | x | soon |",
		"| A1 | x | `TestWithoutFolder` |",
		"Rows: A1-A3.",
	} {
		if _, _, err := ParseFeatures([]byte(page)); err == nil {
			t.Errorf("page %q was accepted", page)
		}
	}
}
