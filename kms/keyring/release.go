package keyring

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

const keyColumns = `id, creator, client, created, resource, bound, kek, wrapped`

var (
	getKey     = Domain.Query(`SELECT ` + keyColumns + ` FROM kr_key WHERE id = ? AND org = ?`)
	latestKeys = Domain.Query(`SELECT ` + keyColumns + ` FROM kr_key WHERE resource = ? AND bound >= ? AND bound < ? ORDER BY place DESC LIMIT ?`)
	getRole    = Domain.Query(`SELECT id, authid, role, created FROM kr_member WHERE resource = ? AND subject = ?`)
	getConsent = Domain.Query(`SELECT allowed FROM kr_consent WHERE org = ? AND service = ?`)
)

type keyRow struct {
	id, creator, client, resource string
	created, bound                int64
	box                           seal.Box
}

func scanKey(r store.Row) (out keyRow, err error) {
	err = r.Scan(&out.id, &out.creator, &out.client, &out.created, &out.resource, &out.bound, &out.box.KEK, &out.box.Bytes)
	return out, err
}

func (k *Keyring) uri(kind wire.Kind, id string) wire.URI {
	parsed, ok := wire.ParseID(id)
	if !ok {
		return wire.URI{}
	}
	return wire.URI{Host: k.cfg.Host, Kind: kind, ID: parsed}
}

func (k *Keyring) keyPlace(id string) seal.Place {
	return seal.Place{Org: k.cfg.Host, Kind: "key", ID: id}
}

// open makes a key to hand out of its row.
func (k *Keyring) open(tx *store.Tx, r keyRow) (wire.Key, error) {
	key, err := k.cfg.Barrier.Unwrap(tx, k.keyPlace(r.id), r.box)
	if err != nil {
		return wire.Key{}, err
	}
	defer key.Wipe()
	return k.describe(r, key)
}

func (k *Keyring) describe(r keyRow, key seal.Key) (wire.Key, error) {
	m, err := wire.NewMaterial(key.Expose())
	if err != nil {
		return wire.Key{}, err
	}
	out := wire.Key{URI: k.uri(wire.Keys, r.id), Material: m, User: r.creator, Client: r.client, Created: store.Time(r.created)}
	if r.resource != "" {
		out.Resource, out.Bound = k.uri(wire.Resources, r.resource), store.Time(r.bound)
	}
	return out, nil
}

// mayFetch says whether a caller may have the keys of a resource.
func (k *Keyring) mayFetch(tx *store.Tx, who wire.Caller, resource string, e audit.Entry) (resourceRow, error) {
	r, err := k.resource(tx, resource, e)
	if err != nil {
		return r, err
	}
	switch {
	case who.Peer != "" && who.Domain != who.Peer:
		return r, refuse(e, forbidden, "another KMS asks for a user who is not of its domain")
	case who.Peer == "" && who.Domain != k.cfg.Host:
		return r, refuse(e, forbidden, "a user of another domain goes through his own KMS")
	case who.Service != "":
		return r, k.consented(tx, who, e)
	}
	var m member
	switch err := tx.One(getRole, []any{resource, k.subject(who.User, who.Domain)}, &m.ID, &m.AuthID, &m.Role, &m.Created); {
	case errors.Is(err, store.ErrNone):
		return r, refuse(e, forbidden, "not authorised")
	case err != nil:
		return r, err
	}
	r.caller = m
	return r, nil
}

// consented says whether the organisation lets a type of service see plaintext. Its own services only, and no type by default.
func (k *Keyring) consented(tx *store.Tx, who wire.Caller, e audit.Entry) error {
	if who.Peer != "" {
		return refuse(e, forbidden, "a service of another organisation")
	}
	allowed := false
	if err := tx.One(getConsent, []any{k.cfg.Host, who.Service}, &allowed); err != nil && !errors.Is(err, store.ErrNone) {
		return err
	}
	if !allowed {
		return refuse(e, forbidden, "the organisation has not consented to services of this type")
	}
	return nil
}

// fetch decides about one key and records it. The key is the caller's to overwrite.
func (k *Keyring) fetch(tx *store.Tx, who wire.Caller, uri wire.URI) (wire.Key, error) {
	e := k.entry(who, "key.release", uri)
	if uri.Host != k.cfg.Host {
		return wire.Key{}, refuse(e, forbidden, "a key of another KMS")
	}
	var r keyRow
	switch err := tx.One(getKey, []any{uri.ID.String(), k.cfg.Host}, &r.id, &r.creator, &r.client, &r.created, &r.resource, &r.bound, &r.box.KEK, &r.box.Bytes); {
	case errors.Is(err, store.ErrNone):
		return wire.Key{}, refuse(e, forbidden, "no such key")
	case err != nil:
		return wire.Key{}, err
	}
	if r.resource == "" {
		if who.Peer != "" || who.Service != "" || r.creator != k.subject(who.User, who.Domain) {
			return wire.Key{}, refuse(e, forbidden, "unbound, and another's")
		}
	} else {
		e.Resource = k.uri(wire.Resources, r.resource).String()
		if _, err := k.mayFetch(tx, who, r.resource, e); err != nil {
			return wire.Key{}, err
		}
	}
	key, err := k.open(tx, r)
	if errors.Is(err, seal.ErrDamaged) {
		return wire.Key{}, refuse(e, wire.Refuse(wire.StatusInternal, "the key is damaged"), err.Error())
	}
	if err != nil {
		return wire.Key{}, err
	}
	if _, err := k.log.Append(tx, e); err != nil {
		key.Wipe()
		return wire.Key{}, err
	}
	return key, nil
}

// release is a Key on its way through the one goroutine that answers those that wait together.
type release struct {
	who    wire.Caller
	uri    wire.URI
	taken  atomic.Bool // by the goroutine, or by the caller who waits no longer
	gone   atomic.Bool // the caller waits no longer
	answer chan released
}

type released struct {
	key wire.Key
	err error
}

// discard overwrites an answer that nobody waits for.
func (r *release) discard() {
	select {
	case a := <-r.answer:
		a.key.Wipe()
	default:
	}
}

// together is how many releases share a transaction at most.
const together = 64

// Key releases one key.
func (k *Keyring) Key(ctx context.Context, who wire.Caller, uri wire.URI) (wire.Key, error) {
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	if away {
		if key, err := k.fromCache(who, uri); err == nil {
			return key, nil
		}
	}
	r := &release{who: who, uri: uri, answer: make(chan released, 1)}
	hurry := time.NewTimer(k.cfg.Hurry)
	defer hurry.Stop()
	select {
	case k.queue <- r:
		select {
		case a := <-r.answer:
			return k.told(ctx, a)
		case <-hurry.C:
		case <-ctx.Done():
		}
	case <-hurry.C:
	case <-ctx.Done():
	case <-k.group.Context().Done():
		return wire.Key{}, k.answer(ctx, store.ErrClosed)
	}
	if !r.taken.CompareAndSwap(false, true) {
		// Its transaction runs, and may still be committed; then the audit says so, and perhaps twice.
		r.gone.Store(true)
		r.discard()
	}
	if ctx.Err() != nil {
		return wire.Key{}, ctx.Err()
	}
	k.mu.Lock()
	k.away = true
	k.mu.Unlock()
	select {
	case k.probe <- struct{}{}:
	default:
	}
	key, err := k.fromCache(who, uri)
	if err != nil {
		return wire.Key{}, k.answer(ctx, err)
	}
	return key, nil
}

func (k *Keyring) told(ctx context.Context, a released) (wire.Key, error) {
	if a.err != nil {
		return wire.Key{}, k.answer(ctx, a.err)
	}
	return a.key, nil
}

var errNotCached = errors.New("keyring: the database is away, and this release is not remembered")

func (k *Keyring) ticket(who wire.Caller, uri wire.URI) ticket {
	return ticket{k.subject(who.User, who.Domain), who.Service, who.Peer, uri.String()}
}

// fromCache releases what was released a moment ago, once that is recorded.
func (k *Keyring) fromCache(who wire.Caller, uri wire.URI) (wire.Key, error) {
	if k.spool == nil {
		return wire.Key{}, errNotCached
	}
	if sealed, _ := k.cfg.Barrier.Sealed(); sealed {
		return wire.Key{}, seal.ErrSealed
	}
	now := k.now()
	key, ok := k.cache.get(k.ticket(who, uri), now)
	if !ok {
		return wire.Key{}, errNotCached
	}
	e := k.entry(who, "key.release", uri)
	e.Resource, e.Reason = key.Resource.String(), "from memory, the database was away"
	if err := k.spool.Add(e, now); err != nil {
		key.Wipe()
		return wire.Key{}, err
	}
	return key, nil
}

// serve answers releases, those that wait together in one transaction.
func (k *Keyring) serve(ctx context.Context) error {
	for {
		var batch []*release
		select {
		case r := <-k.queue:
			batch = append(batch, r)
		case <-ctx.Done():
			return nil
		}
		select {
		case k.turn <- struct{}{}:
		case <-ctx.Done():
			for _, r := range batch {
				r.answer <- released{err: store.ErrClosed}
			}
			return nil
		}
		for more := true; more && len(batch) < together; {
			select {
			case r := <-k.queue:
				batch = append(batch, r)
			default:
				more = false
			}
		}
		k.releaseAll(ctx, batch)
		<-k.turn
	}
}

func (k *Keyring) releaseAll(ctx context.Context, batch []*release) {
	mine := batch[:0]
	for _, r := range batch {
		if r.taken.CompareAndSwap(false, true) {
			mine = append(mine, r)
		}
	}
	if len(mine) == 0 {
		return
	}
	before := k.cache.state()
	answers := make([]released, len(mine))
	wipe := func() {
		for i := range answers {
			answers[i].key.Wipe()
		}
	}
	err := k.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		wipe() // of a try before
		for i, r := range mine {
			key, err := k.fetch(tx, r.who, r.uri)
			answers[i] = released{key, err}
			if told := (*refusal)(nil); errors.As(err, &told) {
				if _, err := k.log.Append(tx, told.entry); err != nil {
					return err
				}
				answers[i].err = told.told
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	k.went(err)
	now := k.now()
	for i, r := range mine {
		if err != nil {
			answers[i].key.Wipe()
			answers[i] = released{err: err}
		} else if answers[i].err == nil && answers[i].key.Resource != (wire.URI{}) {
			k.cache.put(k.ticket(r.who, r.uri), answers[i].key, now, &before)
		}
		r.answer <- answers[i]
		if r.gone.Load() {
			r.discard()
		}
	}
}

// ResourceKeys releases keys of a resource, the latest first.
func (k *Keyring) ResourceKeys(ctx context.Context, who wire.Caller, uri wire.URI, which wire.Range) ([]wire.Key, error) {
	before := which.Before
	if before == 0 {
		before = 1<<63 - 1
	}
	var keys []wire.Key
	err := k.update(ctx, func(tx *store.Tx) error {
		wipeAll(keys)
		keys = nil
		e := k.entry(who, "key.release", uri)
		e.Resource = uri.String()
		r, err := k.mayFetch(tx, who, k.local(uri), e)
		if err != nil {
			return err
		}
		rows, err := store.All(tx, latestKeys, []any{r.id, which.After, before, min(which.Count, wire.MaxKeys)}, scanKey)
		if err != nil {
			return err
		}
		keys, err = k.openAll(tx, rows, e)
		return err
	})
	if err != nil {
		wipeAll(keys)
		return nil, k.answer(ctx, err)
	}
	return keys, nil
}

// openAll opens keys and records each.
func (k *Keyring) openAll(tx *store.Tx, rows []keyRow, e audit.Entry) (keys []wire.Key, err error) {
	for _, row := range rows {
		key, err := k.open(tx, row)
		if err == nil {
			keys = append(keys, key)
			e.Object = key.URI.String()
			_, err = k.log.Append(tx, e)
		}
		if err != nil {
			wipeAll(keys)
			return nil, err
		}
	}
	return keys, nil
}

func wipeAll(keys []wire.Key) {
	for i := range keys {
		keys[i].Wipe()
	}
}

// local is the id of an object of this KMS, and no id for one of another.
func (k *Keyring) local(u wire.URI) string {
	if u.Host != k.cfg.Host {
		return "-"
	}
	return u.ID.String()
}
