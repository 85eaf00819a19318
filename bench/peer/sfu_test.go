package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
)

// post makes one request and returns the status and the body.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	r, err := http.Post(url, "application/sdp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// Both shapes answer an offer, as ICE-lite and over loopback. That media passes, bench/sfu tests.
func TestPublish(t *testing.T) {
	for name, o := range map[string]options{"plain": {}, "bare": {bare: true}} {
		t.Run(name, func(t *testing.T) {
			s, err := newServer(o)
			if err != nil {
				t.Fatal(err)
			}
			h := httptest.NewServer(s.handler())
			defer h.Close()
			pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendrecv}); err != nil {
				t.Fatal(err)
			}
			offer, err := pc.CreateOffer(nil)
			if err != nil {
				t.Fatal(err)
			}
			status, answer := post(t, h.URL+"/rooms/1/publish?id=a", offer.SDP)
			if status != http.StatusOK || !strings.Contains(answer, "a=ice-lite") || !strings.Contains(answer, " 127.0.0.1 ") || strings.Contains(answer, " tcp ") {
				t.Errorf("%d: %s", status, answer)
			}
			if got, want := strings.Contains(answer, "transport-cc"), !o.bare; got != want {
				t.Errorf("transport-wide feedback is in the answer: %t", got)
			}
			if err := s.close(); err != nil {
				t.Error(err)
			}
			if status, _ := post(t, h.URL+"/rooms/1/publish?id=a", offer.SDP); status != http.StatusInternalServerError {
				t.Errorf("after the end: %d", status)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	s, err := newServer(options{})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.handler())
	defer h.Close()
	for path, want := range map[string]int{
		"/rooms/1/publish?id=a": http.StatusBadRequest, "/rooms/1/receive?id=a": http.StatusBadRequest, "/peers/7/answer": http.StatusNotFound,
		"/peers/x/answer": http.StatusNotFound, "/": http.StatusNotFound,
	} {
		if got, text := post(t, h.URL+path, "nonsense"); got != want {
			t.Errorf("%s: %d %s", path, got, text)
		}
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// It says where it is, and ends when it is told to.
func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	said := make(chan string, 1)
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, "127.0.0.1:0", "", options{bare: true}, writer(said)) }()
	select {
	case at := <-said:
		if status, _ := post(t, strings.TrimSpace(at)+"/rooms/1/receive?id=a&tracks=0", ""); status != http.StatusOK {
			t.Errorf("an empty room: %d", status)
		}
	case err := <-ended:
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := serve(t.Context(), "nowhere", "", options{}, &bytes.Buffer{}); err == nil {
		t.Error("serves nowhere")
	}
}

type writer chan string

func (w writer) Write(b []byte) (int, error) { w <- string(b); return len(b), nil }
