package client

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog lets pion write to the client's logger: its warnings are about packets and sockets, not about the life of the client, so
// that all of it is at debug level.
type pionLog struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (p pionLog) NewLogger(scope string) logging.LeveledLogger {
	return pionScope{p.log.With("pion", scope)}
}

type pionScope struct{ log *slog.Logger }

func (p pionScope) write(s string) { p.log.Debug("client: " + s) }

func (p pionScope) writef(format string, args ...any) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("client: " + fmt.Sprintf(format, args...))
	}
}

// Trace implements logging.LeveledLogger; traces are dropped, as debug output is: it is one line a packet.
func (p pionScope) Trace(string) {}

// Tracef implements logging.LeveledLogger.
func (p pionScope) Tracef(string, ...any) {}

// Debug implements logging.LeveledLogger.
func (p pionScope) Debug(string) {}

// Debugf implements logging.LeveledLogger.
func (p pionScope) Debugf(string, ...any) {}

// Info implements logging.LeveledLogger.
func (p pionScope) Info(s string) { p.write(s) }

// Infof implements logging.LeveledLogger.
func (p pionScope) Infof(format string, args ...any) { p.writef(format, args...) }

// Warn implements logging.LeveledLogger.
func (p pionScope) Warn(s string) { p.write(s) }

// Warnf implements logging.LeveledLogger.
func (p pionScope) Warnf(format string, args ...any) { p.writef(format, args...) }

// Error implements logging.LeveledLogger.
func (p pionScope) Error(s string) { p.write(s) }

// Errorf implements logging.LeveledLogger.
func (p pionScope) Errorf(format string, args ...any) { p.writef(format, args...) }
