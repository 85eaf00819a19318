package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sotto-edge/sotto/bench/netem"
)

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, []string{"-to", "127.0.0.1:9", "-control", "127.0.0.1:0", "-script", "0s down loss=10%"}, w)
		_ = w.CloseWithError(io.ErrUnexpectedEOF)
		ended <- err
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatal(err, <-ended)
	}
	var at ready
	if err := json.Unmarshal(line, &at); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(at.Listen, "127.0.0.1:") {
		t.Errorf("listens at %q", at.Listen)
	}
	post := func(query, script string, want int) {
		t.Helper()
		resp, err := http.Post(at.Control+"/script"+query, "text/plain", strings.NewReader(script))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %q: %d, want %d", query, script, resp.StatusCode, want)
		}
	}
	post("?seed=7", "0s up rate=1M; 1s clear", http.StatusNoContent)
	post("", "0s up rate=quick", http.StatusBadRequest)
	post("", strings.Repeat("#", longestScript+1), http.StatusBadRequest)
	post("?seed=x", "0s clear", http.StatusBadRequest)
	resp, err := http.Get(at.Control + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	var report netem.Report
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil || report.Elapsed == 0 || len(report.Up.Series) == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	_ = resp.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServeRefuses(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"-to", "127.0.0.1:9", "-script", "10s"},
		{"-to", "127.0.0.1:9", "-control", "0.0.0.0:0"},
		{"-to", "127.0.0.1:9", "-control", "localhost"},
		{"-to", "127.0.0.1:9", "-listen", "nowhere"},
	} {
		if err := serve(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
