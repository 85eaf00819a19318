//go:build !linux

package relay

// TCX relays in the kernel, on Linux.
type TCX struct{}

// NewTCX fails here.
func NewTCX(int) (*TCX, error) { return nil, ErrUnsupported }

// Add leaves every flow to the server.
func (*TCX) Add(Flow) error { return ErrUnsupported }

// Remove has nothing to end.
func (*TCX) Remove(Flow) {}

// Count knows no flow.
func (*TCX) Count(Flow) (up, down Counters, ok bool) { return Counters{}, Counters{}, false }

// Engine returns its name.
func (*TCX) Engine() string { return "none" }

// Attach sees no interface.
func (*TCX) Attach(int) error { return ErrUnsupported }

// Stats has none.
func (*TCX) Stats() Stats { return Stats{} }

// Reconcile has nothing to put right.
func (*TCX) Reconcile([]Flow) {}

// Verdicts has none.
func Verdicts() []string { return nil }

// Verdicts has none.
func (*TCX) Verdicts() (map[string]uint64, error) { return nil, nil }

// Close has nothing to give back.
func (*TCX) Close() error { return nil }
