//go:build !sotto_invariants

package pktbuf

// invariants is off: the checks below it compile to nothing.
const invariants = false
