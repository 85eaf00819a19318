package web

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func do(t *testing.T, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	response := w.Result()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestWhichPathsShowThePage(t *testing.T) {
	_, page := do(t, "GET", "/")
	if !strings.Contains(page, "<title>Sotto</title>") {
		t.Fatalf("/ is not the page: %.80q", page)
	}
	for target, want := range map[string]int{
		"/m/abcd-efgh-23":                   200,
		"/m/ABCD":                           200,
		"/m/abcd?name=Aki&autojoin=1":       200,
		"/watch/abcd-efgh-23":               200,
		"/watch/":                           404,
		"/watch/m/abcd":                     404,
		"/watch/" + strings.Repeat("a", 65): 404,
		"/m/":                               404,
		"/m":                                404,
		"/m/a/b":                            404,
		"/m/..":                             404,
		"/m/%3Cscript%3E":                   404,
		"/m/" + strings.Repeat("a", 65):     404,
		"/index.html":                       404,
		"/assets/":                          404,
		"/assets/index-gone.js":             404,
		"/api/v1/meetings":                  404,
		"/favicon.ico":                      404,
		"/assets/../index.html":             404,
		"/m/abcd/":                          404,
		"/m/%e4%bc%9a%e8%ad%b0":             404,
		"/m/abcd%00":                        404,
		"/m/" + strings.Repeat("a-", 32):    200,
		"/assets/%2e%2e/index.html":         404,
		"//assets/index.html":               404,
		"/m/abcd?lang=ja&codec=vp9&name=x":  200,
	} {
		response, got := do(t, "GET", target)
		if response.StatusCode != want {
			t.Errorf("GET %s: status %d, want %d", target, response.StatusCode, want)
		}
		if want == 200 && got != page {
			t.Errorf("GET %s: not the page", target)
		}
	}
}

func TestEveryAnswerCarriesThePolicies(t *testing.T) {
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' wss:; " +
			"img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"Referrer-Policy":        "no-referrer",
		"X-Content-Type-Options": "nosniff",
		"Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), " +
			"geolocation=(), payment=(), usb=()",
	}
	targets := []string{"/", "/m/abcd", "/nothing"}
	for name := range mustHandler(t).assets {
		targets = append(targets, name)
	}
	for _, target := range targets {
		response, _ := do(t, "GET", target)
		got := make(map[string]string)
		for name := range want {
			got[name] = response.Header.Get(name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("GET %s (-want +got):\n%s", target, diff)
		}
	}
}

func TestAssetsAreCachedForEverAndThePageIsNot(t *testing.T) {
	hashed := regexp.MustCompile(`^/assets/[a-z]+-[A-Za-z0-9_-]{8}\.(js|css|svg)$`)
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	_, page := do(t, "GET", "/")
	for name := range mustHandler(t).assets {
		m := hashed.FindStringSubmatch(name)
		if m == nil {
			t.Errorf("%s has no hash in its name", name)
			continue
		}
		if !strings.Contains(page, `"`+name+`"`) {
			t.Errorf("the page does not name %s", name)
		}
		response, _ := do(t, "GET", name)
		if got := response.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", name, got)
		}
		if got := response.Header.Get("Content-Type"); got != types["."+m[1]] {
			t.Errorf("%s: Content-Type %q", name, got)
		}
	}

	response, _ := do(t, "GET", "/m/abcd")
	if got := response.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("page: Cache-Control %q", got)
	}
	again, body := do(t, "GET", "/m/abcd", "If-None-Match", response.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("page with its ETag: status %d, %d bytes", again.StatusCode, len(body))
	}
}

// The policy would block what this test finds, so the page would be broken.
func TestThePageHasNothingInlineAndNothingForeign(t *testing.T) {
	_, page := do(t, "GET", "/")
	for _, pattern := range []string{`<style`, `style="`, `<script[^>]*>[^<]`, `\son[a-z]+="`, `(src|href)="[^/]`, `(src|href)="//`} {
		if m := regexp.MustCompile(pattern).FindString(page); m != "" {
			t.Errorf("index.html contains %q", m)
		}
	}
	for name, a := range mustHandler(t).assets {
		if strings.HasSuffix(name, ".css") && regexp.MustCompile(`@import|url\(`).Match(a.content) {
			t.Errorf("%s loads something", name)
		}
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		response, _ := do(t, method, "/")
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s /: status %d, Allow %q", method, response.StatusCode, response.Header.Get("Allow"))
		}
	}
	response, body := do(t, "HEAD", "/")
	if response.StatusCode != http.StatusOK || body != "" {
		t.Errorf("HEAD /: status %d, %d bytes", response.StatusCode, len(body))
	}
}

func TestABuildWithoutAPageIsRefused(t *testing.T) {
	_, err := newHandler(fstest.MapFS{"assets/x.js": {Data: []byte("1")}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

func mustHandler(t *testing.T) *handler {
	t.Helper()
	h, err := newHandler(FS())
	if err != nil {
		t.Fatal(err)
	}
	return h
}
