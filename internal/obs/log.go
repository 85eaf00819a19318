// Package obs is how the appliance is watched: it makes the logger that main
// hands to everybody, and the metrics of a process with labels whose values
// are known beforehand.
//
// It promises that no label value comes from outside: one hostile client
// cannot make a million time series. It holds no global logger and no global
// registry, and nothing on the packet path uses it; that counts in plain
// fields, which are read here when somebody asks.
package obs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
)

// LogControl changes a logger that is in use.
type LogControl struct {
	level slog.LevelVar
	json  atomic.Bool
}

// NewLogger returns a logger that writes lines of text at level info to w,
// and the control over both.
func NewLogger(w io.Writer) (*slog.Logger, *LogControl) {
	c := &LogControl{}
	options := &slog.HandlerOptions{Level: &c.level}
	return slog.New(&handler{
		control: c,
		text:    slog.NewTextHandler(w, options),
		json:    slog.NewJSONHandler(w, options),
	}), c
}

// Set chooses the format, text or json, and the lowest level to be written:
// debug, info, warn or error. Nothing changes when one of them is unknown.
func (c *LogControl) Set(format, level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("obs: log level %q: want debug, info, warn or error", level)
	}
	if format != "text" && format != "json" {
		return fmt.Errorf("obs: log format %q: want text or json", format)
	}
	c.level.Set(l)
	c.json.Store(format == "json")
	return nil
}

// handler keeps both forms of every derived logger, so that the format can
// change under loggers that have been handed out long ago.
type handler struct {
	control    *LogControl
	text, json slog.Handler
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.control.level.Level()
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.control.json.Load() {
		return h.json.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{control: h.control, text: h.text.WithAttrs(attrs), json: h.json.WithAttrs(attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{control: h.control, text: h.text.WithGroup(name), json: h.json.WithGroup(name)}
}
