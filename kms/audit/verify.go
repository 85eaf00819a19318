package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/seal"
)

var (
	sinkAt = Domain.Query(`SELECT seq FROM audit_sink WHERE org = ?`)
	begun  = Domain.Query(`SELECT object FROM audit_row WHERE org = '' AND event = ? ORDER BY seq`)
)

// Anchor is a row that is known from elsewhere: from a note, or from the organisation's syslog.
type Anchor struct {
	Seq  int64
	Hash [sha256.Size]byte
}

// Report is what Verify has seen of one chain.
type Report struct {
	Org      string
	Rows     int64
	Head     Anchor // to be noted, for the next time
	Sealed   bool   // the KMS is sealed: the MAC of the head was not looked at
	Problems []Problem
}

// Problem is a row that is not what was written. One change may make two: of the row, and of what refers to it.
type Problem struct {
	Seq  int64
	What string
}

// String is the problem on one line.
func (p Problem) String() string { return fmt.Sprintf("row %d: %s", p.Seq, p.What) }

// page is how many rows are read at a time.
const page = 500

// Verify checks every row of a chain as of one moment.
func (l *Log) Verify(ctx context.Context, s *store.Store, org string, anchors ...Anchor) (Report, error) {
	var out Report
	err := s.View(ctx, func(tx *store.Tx) (err error) {
		out, err = l.verify(tx, org, anchors)
		return err
	})
	return out, err
}

func (l *Log) verify(tx *store.Tx, org string, anchors []Anchor) (Report, error) {
	out := Report{Org: org}
	bad := func(seq int64, format string, args ...any) {
		out.Problems = append(out.Problems, Problem{seq, fmt.Sprintf(format, args...)})
	}
	known := map[int64]Anchor{}
	for _, a := range anchors {
		known[a.Seq] = a
	}
	var at int64
	var prev []byte
	for {
		rows, err := Rows(tx, org, at, page)
		if err != nil {
			return out, err
		}
		for _, r := range rows {
			if r.Seq != at+1 {
				bad(at+1, "missing, up to %d", r.Seq-1)
				prev = nil
			}
			// Behind a gap the row before is not known: that it follows the gap has been said.
			if want := r.hash(prev); (r.Seq == at+1) && want != r.Hash {
				bad(r.Seq, "changed, or in another's place")
			}
			if a, ok := known[r.Seq]; ok && a.Hash != r.Hash {
				bad(r.Seq, "not the row that is known from elsewhere")
			}
			delete(known, r.Seq)
			at, prev = r.Seq, r.Hash[:]
			out.Rows++
		}
		if len(rows) < page {
			break
		}
	}
	for seq := range known {
		bad(seq, "known from elsewhere, and not there")
	}
	return out, l.verifyHead(tx, &out, at, prev, bad)
}

func (l *Log) verifyHead(tx *store.Tx, out *Report, at int64, last []byte, bad func(int64, string, ...any)) error {
	var seq int64
	var hash, mac []byte
	switch err := tx.One(getHead, []any{out.Org}, &seq, &hash, &mac); {
	case errors.Is(err, store.ErrNone):
		if at > 0 {
			bad(at, "the head of the chain is gone")
		}
		return nil
	case err != nil:
		return err
	}
	if seq > at {
		bad(at+1, "missing, up to the head, %d", seq)
	} else if seq < at || !bytes.Equal(hash, last) {
		bad(seq, "the head is that of another chain, or of an earlier day")
	}
	out.Head.Seq = seq
	copy(out.Head.Hash[:], hash)
	var sent int64
	if err := tx.One(sinkAt, []any{out.Org}, &sent); err != nil && !errors.Is(err, store.ErrNone) {
		return err
	}
	if sent > seq {
		bad(seq+1, "missing: syslog has had rows up to %d", sent)
	}
	key, err := l.key(tx, out.Org, false)
	switch {
	case errors.Is(err, seal.ErrSealed):
		out.Sealed = true
		return nil
	case errors.Is(err, store.ErrNone) || errors.Is(err, seal.ErrDamaged):
		bad(seq, "the key of the head is gone or changed")
		return nil
	case err != nil:
		return err
	}
	if !hmac.Equal(mac, headMAC(key, out.Org, seq, hash)) {
		bad(seq, "the head was not written by this KMS")
	}
	return nil
}

// VerifyAll checks every chain, also those that are there no more.
func (l *Log) VerifyAll(ctx context.Context, s *store.Store) ([]Report, error) {
	var out []Report
	err := s.View(ctx, func(tx *store.Tx) error {
		out = nil
		text := func(r store.Row) (org string, err error) { err = r.Scan(&org); return org, err }
		orgs, err := store.All(tx, chains, nil, text)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, org := range orgs {
			there[org] = true
			r, err := l.verify(tx, org, nil)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		was, err := store.All(tx, begun, []any{eventBegin}, text)
		for _, org := range was {
			if !there[org] {
				out = append(out, Report{Org: org, Problems: []Problem{{1, "the whole chain is gone"}}})
			}
		}
		return err
	})
	return out, err
}
