// Package redact keeps secrets out of logs and files by accident.
//
// It owns one embeddable type, Guard. A struct that embeds it answers every
// printing verb, every encoder of the standard library and log/slog with a
// fixed word or an error. It promises nothing about code that reads the
// fields by reflection: such a struct keeps its secret behind a pointer.
//
// It is a package of its own because fmt.Formatter and slog.LogValuer cannot
// be implemented without importing fmt and log/slog, and the packet path
// imports neither.
package redact

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Text is what a guarded value prints as.
const Text = "[redacted]"

// ErrSecret is what every encoder gets: a stored "[redacted]" would be a
// loss that nobody notices, an error is noticed.
var ErrSecret = errors.New("redact: a secret is not marshalled")

// Guard is embedded by types that must not be printed or marshalled.
type Guard struct{}

// String implements fmt.Stringer.
func (Guard) String() string { return Text }

// GoString implements fmt.GoStringer.
func (Guard) GoString() string { return Text }

// Format implements fmt.Formatter; it covers the verbs, such as %d, that
// pass String by.
func (Guard) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Text) }

// LogValue implements slog.LogValuer.
func (Guard) LogValue() slog.Value { return slog.StringValue(Text) }

// MarshalJSON implements json.Marshaler.
func (Guard) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText implements encoding.TextMarshaler, which XML, TOML and YAML
// encoders use as well.
func (Guard) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalBinary implements encoding.BinaryMarshaler.
func (Guard) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// GobEncode implements gob.GobEncoder.
func (Guard) GobEncode() ([]byte, error) { return nil, ErrSecret }
