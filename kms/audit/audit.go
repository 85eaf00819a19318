// Package audit is the record of who got which key, and of every change of who may. It is written in the transaction of what it
// records: a release whose row is not on the disk has not happened.
//
// It owns the rows, one chain for each organisation and one, named "", of the KMS itself; their way to the organisation's syslog (Sink); and a
// file for rows of the time in which the database is away (Spool). Each row has the SHA-256 of the one before, and the head of a
// chain a MAC under a key that is not in the database in the clear, so that Verify finds what was changed, deleted, put elsewhere or
// cut off. What it cannot find by itself is the whole database put back to an earlier day: an Anchor, a head that was noted or
// received over syslog, shows that, too.
//
// It decides nothing and holds no content and no keys; ids of users are in it, so it is as confidential as a list of members.
package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/seal"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Domain is the tables of this package.
var Domain = store.NewDomain("kms_audit", sub())

func sub() fs.FS {
	f, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic("audit: " + err.Error()) // the name above is no path
	}
	return f
}

const columns = `seq, at, event, outcome, reason, actor, client, service, via, object, resource, hash`

var (
	getHead  = Domain.Query(`SELECT seq, hash, mac FROM audit_head WHERE org = ?`)
	putHead  = Domain.Query(`INSERT INTO audit_head (org, seq, hash, mac) VALUES (?, ?, ?, ?) ON CONFLICT (org) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, mac = excluded.mac`)
	addRow   = Domain.Query(`INSERT INTO audit_row (org, ` + columns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	rowsFrom = Domain.Query(`SELECT ` + columns + ` FROM audit_row WHERE org = ? AND seq > ? ORDER BY seq LIMIT ?`)
	lastRows = Domain.Query(`SELECT ` + columns + ` FROM audit_row WHERE org = ? AND seq < ? ORDER BY seq DESC LIMIT ?`)
	getKey   = Domain.Query(`SELECT kek, wrapped FROM audit_key WHERE org = ?`)
	addKey   = Domain.Query(`INSERT INTO audit_key (org, kek, wrapped) VALUES (?, ?, ?)`)
	setKey   = Domain.Query(`UPDATE audit_key SET kek = ?, wrapped = ? WHERE org = ?`)
	chains   = Domain.Query(`SELECT org FROM audit_head UNION SELECT org FROM audit_row ORDER BY org`)
)

// Outcome is how what a row records went.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
)

// Entry is what is recorded. Text that is no UTF-8 is mended, not refused.
type Entry struct {
	Org      string // whose chain; "" is the KMS's own
	Event    string // "key.release", …
	Outcome  Outcome
	Reason   string // for the audit alone; a stranger hears less
	Actor    string // user or service account
	Client   string // the device, or whatever it calls itself
	Service  string // type of a service account
	Via      string // another KMS that asked for the actor
	Object   string // what it is about
	Resource string // and what that belongs to
}

// Row is an entry in its chain.
type Row struct {
	Entry
	Seq  int64 // from 1
	At   time.Time
	Hash [sha256.Size]byte
}

// ErrTooLong is the error of an entry with a text that is too long.
var ErrTooLong = errors.New("audit: a text of an entry is too long")

// maxText bounds each text of an entry.
const maxText = 1024

// eventBegin is recorded in the chain of the KMS when that of an organisation begins: a chain that is gone whole is missed.
const eventBegin = "audit.begin"

// Log appends to the chains. All methods may be called from any goroutine.
type Log struct {
	barrier *seal.Barrier
	now     func() time.Time

	mu   sync.Mutex
	keys map[string]seal.Key // by the box that it came in: what is rolled back never comes again
}

// New returns the log of a KMS. now is the clock that rows are dated by; their order is by number, whatever it says.
func New(b *seal.Barrier, now func() time.Time) *Log {
	return &Log{barrier: b, now: now, keys: map[string]seal.Key{}}
}

// Append records an entry in the transaction of what it is about.
func (l *Log) Append(tx *store.Tx, e Entry) (Row, error) { return l.append(tx, e, l.now()) }

func (l *Log) append(tx *store.Tx, e Entry, at time.Time) (Row, error) {
	for _, s := range e.texts() {
		if len(*s) > maxText {
			return Row{}, ErrTooLong
		}
		*s = strings.ReplaceAll(strings.ToValidUTF8(*s, "\ufffd"), "\x00", "\ufffd")
	}
	r := Row{Entry: e, Seq: 1, At: store.Time(store.Micros(at))}
	var prev, mac []byte
	switch err := tx.One(getHead, []any{e.Org}, &r.Seq, &prev, &mac); {
	case err == nil:
		r.Seq++
	case !errors.Is(err, store.ErrNone):
		return Row{}, err
	case e.Org != "":
		if _, err := l.append(tx, Entry{Event: eventBegin, Outcome: Done, Object: e.Org}, at); err != nil {
			return Row{}, err
		}
	}
	r.Hash = r.hash(prev)
	key, err := l.key(tx, e.Org, true)
	if err != nil {
		return Row{}, err
	}
	// The head first: there two transactions meet that append to one chain, and the later one is tried again.
	if _, err := tx.Exec(putHead, r.Org, r.Seq, r.Hash[:], headMAC(key, r.Org, r.Seq, r.Hash[:])); err != nil {
		return Row{}, err
	}
	_, err = tx.Exec(addRow, r.Org, r.Seq, store.Micros(r.At), r.Event, string(r.Outcome), r.Reason, r.Actor, r.Client, r.Service, r.Via, r.Object, r.Resource, r.Hash[:])
	return r, err
}

// texts are all texts of an entry, in the order of the hash.
func (e *Entry) texts() []*string {
	return []*string{&e.Org, &e.Event, (*string)(&e.Outcome), &e.Reason, &e.Actor, &e.Client, &e.Service, &e.Via, &e.Object, &e.Resource}
}

// hash chains the row to the one before: its hash, the number, the time, and each text behind its length.
func (r *Row) hash(prev []byte) [sha256.Size]byte {
	b := []byte("sotto kms audit 1\x00")
	b = append(b, prev...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(store.Micros(r.At)))
	for _, s := range r.texts() {
		b = binary.BigEndian.AppendUint32(b, uint32(len(*s)))
		b = append(b, *s...)
	}
	return sha256.Sum256(b)
}

func headMAC(key seal.Key, org string, seq int64, hash []byte) []byte {
	m := hmac.New(sha256.New, key.Expose())
	m.Write([]byte("sotto kms audit head 1\x00"))
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(seq)))
	m.Write(hash)
	m.Write([]byte(org))
	return m.Sum(nil)
}

func keyPlace(org string) seal.Place { return seal.Place{Org: org, Kind: "audit", ID: "head"} }

// key returns the key of an organisation's head, which is made if asked to.
func (l *Log) key(tx *store.Tx, org string, create bool) (seal.Key, error) {
	var box seal.Box
	err := tx.One(getKey, []any{org}, &box.KEK, &box.Bytes)
	if errors.Is(err, store.ErrNone) && create {
		key := seal.RandomKey()
		if box, err = l.barrier.Wrap(tx, keyPlace(org), key); err != nil {
			return seal.Key{}, err
		}
		_, err = tx.Exec(addKey, org, box.KEK, box.Bytes)
		return key, err
	}
	if err != nil {
		return seal.Key{}, err
	}
	if sealed, _ := l.barrier.Sealed(); sealed {
		return seal.Key{}, seal.ErrSealed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if key, ok := l.keys[string(box.Bytes)]; ok {
		return key, nil
	}
	key, err := l.barrier.Unwrap(tx, keyPlace(org), box)
	if err != nil {
		return seal.Key{}, err
	}
	if len(l.keys) >= 1000 {
		clear(l.keys)
	}
	l.keys[string(box.Bytes)] = key
	return key, nil
}

// Rewrap wraps the key of a chain by the organisation's newest KEK: a part of changing that.
func (l *Log) Rewrap(tx *store.Tx, org string) error {
	var box seal.Box
	switch err := tx.One(getKey, []any{org}, &box.KEK, &box.Bytes); {
	case errors.Is(err, store.ErrNone):
		return nil
	case err != nil:
		return err
	}
	box, changed, err := l.barrier.Rewrap(tx, keyPlace(org), box)
	if err != nil || !changed {
		return err
	}
	_, err = tx.Exec(setKey, box.KEK, box.Bytes, org)
	return err
}

// Rows returns rows of a chain after a number, the oldest first, at most limit.
func Rows(tx *store.Tx, org string, after int64, limit int) ([]Row, error) {
	return store.All(tx, rowsFrom, []any{org, after, limit}, func(r store.Row) (Row, error) { return scan(r, org) })
}

// Last returns rows of a chain before a number, the newest first, at most limit.
func Last(tx *store.Tx, org string, before int64, limit int) ([]Row, error) {
	return store.All(tx, lastRows, []any{org, before, limit}, func(r store.Row) (Row, error) { return scan(r, org) })
}

func scan(r store.Row, org string) (Row, error) {
	out := Row{Entry: Entry{Org: org}}
	var at int64
	var outcome string
	var hash []byte
	err := r.Scan(&out.Seq, &at, &out.Event, &outcome, &out.Reason, &out.Actor, &out.Client, &out.Service, &out.Via, &out.Object, &out.Resource, &hash)
	if err == nil && len(hash) != len(out.Hash) {
		hash = make([]byte, len(out.Hash)) // no hash of any row
	}
	copy(out.Hash[:], hash)
	out.At, out.Outcome = store.Time(at), Outcome(outcome)
	return out, err
}

// String is the row on one line, for people.
func (r Row) String() string {
	s := fmt.Sprintf("%d %s %s %s", r.Seq, r.At.Format(time.RFC3339Nano), r.Event, r.Outcome)
	for _, f := range [...]struct{ name, value string }{
		{"reason", r.Reason}, {"actor", r.Actor}, {"client", r.Client}, {"service", r.Service}, {"via", r.Via}, {"object", r.Object}, {"resource", r.Resource},
	} {
		if f.value != "" {
			s += fmt.Sprintf(" %s=%q", f.name, f.value)
		}
	}
	return s
}
