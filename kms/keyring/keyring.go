// Package keyring decides who gets which key, and keeps them: keys, the resources that they belong to, who is authorised on those, which
// services an organisation lets see plaintext, and what is to be deleted.
//
// It owns those tables and every rule about them; kms hands it requests of callers that it has verified. It promises:
//   - nothing is released, refused or changed without its row in the audit, in the same transaction;
//   - a resource has one current key, and a new one in the transaction that removes somebody;
//   - nobody who was removed gets a key once the removal is acknowledged, whatever fails meanwhile;
//   - a write that comes again under its request id is not done twice;
//   - while the database is away, keys that were released a moment ago are released again to the same callers, and the rows of it are
//     on the disk first; removals win over that;
//   - keys that are deleted are disabled for days before they are gone, and it takes two persons.
//
// It does not know tokens or channels, and does not look up who is an officer: its administrative calls are for callers who do.
package keyring

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Domain is the tables of this package.
var Domain = store.NewDomain("kms_keyring", sub())

func sub() fs.FS {
	f, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic("keyring: " + err.Error()) // the name above is no path
	}
	return f
}

// Domains are all domains of a KMS's database.
func Domains() []*store.Domain { return []*store.Domain{seal.Domain, audit.Domain, Domain} }

// Config is what a keyring goes by.
type Config struct {
	// Host is the domain whose keys these are: the organisation.
	Host string
	// Store has Domains. The keyring does not close it.
	Store   *store.Store
	Barrier *seal.Barrier
	// Spool is the path of the file that keeps audit rows while the database is away. Empty: nothing is released then.
	Spool string
	// SpoolRows bounds that file. [100 000]
	SpoolRows int
	// Hurry is how long a release waits for the database before it turns to the cache. [1 s]
	Hurry time.Duration
	// Window is how old what is released from the cache may be. With several nodes on one database it is how long one that is cut off
	// from the database may go on releasing after a removal on another. [60 s]
	Window time.Duration
	// Cached is how many releases are remembered. [10 000]
	Cached int
	// Sink, if there is one, is woken after each row, and asked by Ready.
	Sink *audit.Sink
	// Now is the clock. [time.Now]
	Now func() time.Time
	// Log is told of what nobody waits for. [discards]
	Log *slog.Logger
}

// Keyring is an open keyring. All methods may be called from any goroutine.
type Keyring struct {
	cfg   Config
	log   *audit.Log
	spool *audit.Spool // nil: none
	cache *cache
	group *run.Group
	queue chan *release
	turn  chan struct{} // who has it runs a transaction: those of one process would only be in each other's way, at the head of the chain
	probe chan struct{}

	mu     sync.Mutex
	away   bool      // the database did not answer
	failed error     // of the last transaction; nil: it went well
	latest time.Time // that the clock has said
}

// Open opens a keyring and starts what it does by itself. What a kill has broken off goes on at the next Resume.
func Open(cfg Config) (*Keyring, error) {
	if !wire.ValidHost(cfg.Host) || cfg.Store == nil || cfg.Barrier == nil {
		return nil, errors.New("keyring: a host, a store and a barrier are needed")
	}
	if cfg.SpoolRows == 0 {
		cfg.SpoolRows = 100_000
	}
	if cfg.Hurry == 0 {
		cfg.Hurry = time.Second
	}
	if cfg.Window == 0 {
		cfg.Window = time.Minute
	}
	if cfg.Cached == 0 {
		cfg.Cached = 10_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keyring{cfg: cfg, cache: newCache(cfg.Cached, cfg.Window), queue: make(chan *release), turn: make(chan struct{}, 1), probe: make(chan struct{}, 1)}
	k.log = audit.New(cfg.Barrier, k.now)
	if cfg.Spool != "" {
		var err error
		if k.spool, err = audit.OpenSpool(cfg.Spool, cfg.SpoolRows); err != nil {
			return nil, err
		}
	}
	k.group = run.NewGroup(context.Background())
	k.group.Go("keyring releases", k.serve)
	k.group.Go("keyring recovery", k.recover)
	return k, nil
}

// Audit returns the log of the audit, to verify it.
func (k *Keyring) Audit() *audit.Log { return k.log }

// Close ends what runs and overwrites what is remembered. It may be called twice.
func (k *Keyring) Close() error {
	err := k.group.Stop()
	k.cache.clear()
	if k.spool != nil {
		err = errors.Join(err, k.spool.Close())
	}
	return err
}

func (k *Keyring) now() time.Time {
	now := k.cfg.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.After(k.latest) {
		k.latest = now
	}
	return now
}

// stepBack is how far a clock may go back before readiness tells.
const stepBack = time.Minute

// Ready returns what keeps the keyring from doing its work, or from being watched doing it; nil when all is well.
func (k *Keyring) Ready() error {
	var errs []error
	if sealed, _ := k.cfg.Barrier.Sealed(); sealed {
		errs = append(errs, seal.ErrSealed)
	}
	now := k.now()
	k.mu.Lock()
	if k.away {
		errs = append(errs, errors.New("keyring: the database is away: what was released a moment ago is released again, nothing else"))
	} else if k.failed != nil {
		errs = append(errs, fmt.Errorf("keyring: the last transaction failed: %w", k.failed))
	}
	if d := k.latest.Sub(now); d > stepBack {
		errs = append(errs, fmt.Errorf("keyring: the clock is %v behind what it has said before", d))
	}
	k.mu.Unlock()
	if k.spool != nil {
		if n := k.spool.Len(); n > 0 {
			errs = append(errs, fmt.Errorf("keyring: %d rows of the audit wait for the database", n))
		}
	}
	if k.cfg.Sink != nil {
		errs = append(errs, k.cfg.Sink.Ready())
	}
	return errors.Join(errs...)
}

// refusal is a wire.Error with the cause, which is for the audit.
type refusal struct {
	told  *wire.Error
	entry audit.Entry
}

func (r *refusal) Error() string { return r.told.Error() + ": " + r.entry.Reason }

// forbidden is the one answer to everybody who may not: what is not there looks the same.
var forbidden = wire.Refuse(wire.StatusForbidden, "not authorised, or not there")

func refuse(e audit.Entry, told *wire.Error, reason string) *refusal {
	e.Outcome, e.Reason = audit.Refused, reason
	return &refusal{told, e}
}

// entry begins the audit row for a caller.
func (k *Keyring) entry(who wire.Caller, event string, object wire.URI) audit.Entry {
	return audit.Entry{Org: k.cfg.Host, Event: event, Outcome: audit.Done, Actor: k.subject(who.User, who.Domain), Client: who.Client, Service: who.Service, Via: who.Peer, Object: object.String()}
}

// subject is the one name of a user: ids are unique in a domain, so the domain belongs to it, and a KMS that asks for somebody of its
// own domain never means one of another.
func (k *Keyring) subject(user, domain string) string {
	return strings.TrimSuffix(user, "@"+domain) + "@" + domain
}

// named is the subject that an authId means: a user of this domain, or of the one behind its last @.
func (k *Keyring) named(authID string) string {
	if i := strings.LastIndexByte(authID, '@'); i >= 0 && wire.ValidHost(authID[i+1:]) {
		return authID
	}
	return authID + "@" + k.cfg.Host
}

// mayWrite refuses callers that only fetch, before anything is looked at.
func (k *Keyring) mayWrite(who wire.Caller, e audit.Entry) *refusal {
	switch {
	case who.Peer != "":
		return refuse(e, forbidden, "another KMS fetches, no more")
	case who.Service != "":
		return refuse(e, forbidden, "a plaintext service fetches, no more")
	case who.Domain != k.cfg.Host:
		return refuse(e, forbidden, "a user of another domain goes through his own KMS")
	}
	return nil
}

// take waits for the turn.
func (k *Keyring) take(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-k.group.Context().Done():
		return store.ErrClosed
	}
}

// update runs a transaction when it is its turn.
func (k *Keyring) update(ctx context.Context, f func(*store.Tx) error) error {
	if err := k.take(ctx); err != nil {
		return err
	}
	err := k.cfg.Store.Update(ctx, f)
	<-k.turn
	k.went(err)
	return err
}

// went keeps how the last transaction went, for readiness.
func (k *Keyring) went(err error) {
	if told := (*refusal)(nil); errors.As(err, &told) || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrReused) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = err
	if err == nil {
		k.away = false
		if k.cfg.Sink != nil {
			k.cfg.Sink.Wake()
		}
	}
}

// answer makes of an error what the caller hears. A refusal is recorded before it is told.
func (k *Keyring) answer(ctx context.Context, err error) error {
	var r *refusal
	var told *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &told): // it is recorded already
		return told
	case errors.As(err, &r):
		if err := k.update(ctx, func(tx *store.Tx) error { _, err := k.log.Append(tx, r.entry); return err }); err != nil {
			return k.answer(ctx, err)
		}
		return r.told
	case errors.Is(err, store.ErrReused):
		return wire.Refuse(wire.StatusConflict, "the requestId was used for another request")
	case errors.Is(err, seal.ErrSealed):
		return wire.Refuse(wire.StatusUnavailable, "the KMS is sealed")
	case errors.Is(err, audit.ErrTooLong):
		return wire.Refuse(wire.StatusBadRequest, "an id is too long")
	}
	k.cfg.Log.Error("keyring: request failed", "err", err)
	return wire.Refuse(wire.StatusUnavailable, "the KMS cannot reach its database, or not write to it; try again")
}

// result is what is kept under a request id: names, and no keys.
type result struct {
	Resource string   `json:"resource,omitempty"`
	Keys     []string `json:"keys,omitempty"`
	Members  []member `json:"members,omitempty"`
	Current  string   `json:"current,omitempty"`
}

// once runs a write of a caller, and says whether it was done before.
func (k *Keyring) once(ctx context.Context, who wire.Caller, request any, f func(*store.Tx) (result, error)) (result, bool, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return result{}, false, fmt.Errorf("keyring: %w", err)
	}
	if err := k.take(ctx); err != nil {
		return result{}, false, err
	}
	defer func() { <-k.turn }()
	do := func(tx *store.Tx) ([]byte, error) {
		out, err := f(tx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(out)
	}
	var response []byte
	repeated := false
	if who.Request == "" {
		err = k.cfg.Store.Update(ctx, func(tx *store.Tx) (err error) {
			response, err = do(tx)
			return err
		})
	} else {
		key := store.Key{Scope: "kms " + k.cfg.Host + " " + k.subject(who.User, who.Domain), ID: who.Request, Request: text}
		response, repeated, err = k.cfg.Store.Once(ctx, key, do)
	}
	k.went(err)
	if err != nil {
		return result{}, false, err
	}
	var out result
	if err := json.Unmarshal(response, &out); err != nil {
		return result{}, false, fmt.Errorf("keyring: a kept response: %w", err)
	}
	return out, repeated, nil
}

// Note records what happened outside of the keyring, such as a session that was opened or refused.
func (k *Keyring) Note(ctx context.Context, who wire.Caller, event string, outcome audit.Outcome, reason string) error {
	e := k.entry(who, event, wire.URI{})
	e.Outcome, e.Reason = outcome, reason
	return k.answer(ctx, k.update(ctx, func(tx *store.Tx) error { _, err := k.log.Append(tx, e); return err }))
}

// forgetAfter is how long a request id is known.
const forgetAfter = 48 * time.Hour

// every is how often housekeeping looks.
const every = time.Minute

// recover brings back what waits for the database, and does what is due.
func (k *Keyring) recover(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-k.probe:
			k.back(ctx)
		case <-tick.C:
			if err := k.Tidy(ctx); err != nil && ctx.Err() == nil {
				k.cfg.Log.Warn("keyring: housekeeping", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// back waits until the database answers, and moves the spool into it.
func (k *Keyring) back(ctx context.Context) {
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		err := k.update(ctx, func(*store.Tx) error { return nil })
		if err == nil && k.spool != nil {
			_, err = k.spool.Drain(ctx, k.cfg.Store, k.log)
		}
		if err == nil {
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// Tidy does what is due: keys whose waiting is over are destroyed, request ids are forgotten, the spool is moved into the database.
func (k *Keyring) Tidy(ctx context.Context) error {
	var errs []error
	if k.spool != nil {
		_, err := k.spool.Drain(ctx, k.cfg.Store, k.log)
		errs = append(errs, err)
	}
	errs = append(errs, k.destroyDue(ctx))
	_, err := k.cfg.Store.Forget(ctx, k.now().Add(-forgetAfter))
	return errors.Join(append(errs, err)...)
}
