package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// policy is the content security policy of the page: nothing from elsewhere,
// nothing inline. WebSockets are named by scheme because older browsers do not
// count wss: as 'self'.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' wss:; " +
	"img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// permissions are the powerful features that the page uses; nothing that it
// could ever embed gets them.
const permissions = "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), " +
	"geolocation=(), payment=(), usb=()"

// maxRoom is the longest room id in an address; the server that is asked for a
// token knows which rooms there are.
const maxRoom = 64

// asset is one file of the build, read once.
type asset struct {
	content []byte
	kind    string
	etag    string
}

type handler struct {
	index  asset
	assets map[string]asset // by path, with the leading slash
}

// Handler serves the page at /, /m/{room} and /watch/{room}, and its assets. Every other path
// is not found, every other method not allowed.
func Handler() http.Handler {
	h, err := newHandler(FS())
	if err != nil {
		panic(err) // the build is part of the binary
	}
	return h
}

func newHandler(files fs.FS) (*handler, error) {
	h := &handler{assets: make(map[string]asset)}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		a := asset{content: content, kind: contentType(name), etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		if name == "index.html" {
			h.index = a
		} else {
			h.assets["/"+name] = a
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("web: read the build: %w", err)
	}
	if h.index.content == nil {
		return nil, fmt.Errorf("web: read the build: %w", fs.ErrNotExist)
	}
	return h, nil
}

// contentType is a closed list: what the machine's own tables say about
// JavaScript differs, and with nosniff a wrong type means a blank page.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/octet-stream"
	}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Permissions-Policy", permissions)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")

	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if isPage(r.URL.Path) {
		// A new release shows at the next visit; an unchanged one costs no bytes.
		header.Set("Cache-Control", "no-cache")
		h.index.serve(w, r)
		return
	}
	if a, ok := h.assets[r.URL.Path]; ok {
		// The name changes with the content.
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
		a.serve(w, r)
		return
	}
	header.Set("Cache-Control", "no-store") // during an upgrade the next server may have it
	http.NotFound(w, r)
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
}

// isPage tells whether an address shows the page: the start, a room, or the broadcast of one.
func isPage(p string) bool {
	if p == "/" {
		return true
	}
	room, ok := strings.CutPrefix(p, "/m/")
	if !ok {
		room, ok = strings.CutPrefix(p, "/watch/")
	}
	if !ok || room == "" || len(room) > maxRoom {
		return false
	}
	return strings.Trim(strings.ToLower(room), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
