// Package terminal is what a bench sees of the outside: where results go, and where progress does. It belongs to the benches' root,
// which parts may not import.
package terminal

import "io"

// Terminal is where a bench writes to.
type Terminal struct {
	Out io.Writer // results
	Err io.Writer // progress
}
