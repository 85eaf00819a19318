// Package silence is the logger of pion's libraries on the server: it says nothing. What a client does wrong there is counted,
// and one that sends rubbish cannot make the server write.
//
// It owns no state and promises to allocate nothing. It is not for tests that look for a fault, nor for our own code, which logs
// with log/slog.
package silence

import "github.com/pion/logging"

// Logger discards what it is given. It is a logger and the factory of itself.
type Logger struct{}

// NewLogger implements logging.LoggerFactory.
func (Logger) NewLogger(string) logging.LeveledLogger { return Logger{} }

// Trace implements logging.LeveledLogger, as all below.
func (Logger) Trace(string) {}

// Tracef discards.
func (Logger) Tracef(string, ...any) {}

// Debug discards.
func (Logger) Debug(string) {}

// Debugf discards.
func (Logger) Debugf(string, ...any) {}

// Info discards.
func (Logger) Info(string) {}

// Infof discards.
func (Logger) Infof(string, ...any) {}

// Warn discards.
func (Logger) Warn(string) {}

// Warnf discards.
func (Logger) Warnf(string, ...any) {}

// Error discards.
func (Logger) Error(string) {}

// Errorf discards.
func (Logger) Errorf(string, ...any) {}
