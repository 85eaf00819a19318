package keyring

import (
	"context"
	"errors"
	"slices"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

var (
	addKey      = Domain.Query(`INSERT INTO kr_key (id, org, creator, client, created, resource, bound, place, kek, wrapped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	bindKey     = Domain.Query(`UPDATE kr_key SET resource = ?, bound = ?, place = ? WHERE id = ? AND resource = ''`)
	addResource = Domain.Query(`INSERT INTO kr_resource (id, org, creator, created, moderated, current, bound, state) VALUES (?, ?, ?, ?, ?, '', 0, 'active')`)
	getResource = Domain.Query(`SELECT id, creator, created, moderated, current, bound, state FROM kr_resource WHERE id = ? AND org = ?`)
	setCurrent  = Domain.Query(`UPDATE kr_resource SET current = ?, bound = ? WHERE id = ?`)
	keysOf      = Domain.Query(`SELECT id FROM kr_key WHERE resource = ? ORDER BY place DESC LIMIT 500`)
	addMember   = Domain.Query(`INSERT INTO kr_member (id, resource, subject, authid, role, created) VALUES (?, ?, ?, ?, ?, ?)`)
	setRole     = Domain.Query(`UPDATE kr_member SET role = ? WHERE id = ?`)
	getMember   = Domain.Query(`SELECT id, resource, subject, authid, role, created FROM kr_member WHERE id = ?`)
	membersOf   = Domain.Query(`SELECT id, resource, subject, authid, role, created FROM kr_member WHERE resource = ? ORDER BY created, id LIMIT 1000`)
	dropMember  = Domain.Query(`DELETE FROM kr_member WHERE id = ?`)
)

type resourceRow struct {
	id, creator, current, state string
	created, bound              int64
	moderated                   bool
	caller                      member // of who asks, where that was looked up
}

type member struct {
	ID       string    `json:"id"`
	Resource string    `json:"resource"`
	Subject  string    `json:"subject"`
	AuthID   string    `json:"authId"`
	Role     wire.Role `json:"role"`
	Created  int64     `json:"created"`
}

func scanMember(r store.Row) (m member, err error) {
	err = r.Scan(&m.ID, &m.Resource, &m.Subject, &m.AuthID, &m.Role, &m.Created)
	return m, err
}

func (k *Keyring) authorization(m member) wire.Authorization {
	return wire.Authorization{
		URI: k.uri(wire.Authorizations, m.ID), AuthID: m.AuthID, Role: m.Role, Created: store.Time(m.Created), Resource: k.uri(wire.Resources, m.Resource),
	}
}

// resource reads a resource that is in use.
func (k *Keyring) resource(tx *store.Tx, id string, e audit.Entry) (r resourceRow, err error) {
	switch err := tx.One(getResource, []any{id, k.cfg.Host}, &r.id, &r.creator, &r.created, &r.moderated, &r.current, &r.bound, &r.state); {
	case errors.Is(err, store.ErrNone):
		return r, refuse(e, forbidden, "no such resource")
	case err != nil:
		return r, err
	case r.state != active:
		return r, refuse(e, wire.Refuse(wire.StatusForbidden, "the resource is to be deleted, or deleted"), r.state)
	}
	return r, nil
}

// States of a resource.
const (
	active    = "active"
	disabled  = "disabled" // it waits to be deleted
	destroyed = "destroyed"
)

// draw makes a key, bound as the next of a resource if there is one.
func (k *Keyring) draw(tx *store.Tx, who wire.Caller, r *resourceRow) (keyRow, seal.Key, error) {
	key, now := seal.RandomKey(), store.Micros(k.now())
	row := keyRow{id: wire.NewID().String(), creator: k.subject(who.User, who.Domain), client: who.Client, created: now}
	place := int64(0)
	if r != nil {
		r.bound++
		row.resource, row.bound, place = r.id, now, r.bound
		r.current = row.id
	}
	var err error
	if row.box, err = k.cfg.Barrier.Wrap(tx, k.keyPlace(row.id), key); err != nil {
		return row, key, err
	}
	if _, err := tx.Exec(addKey, row.id, k.cfg.Host, row.creator, row.client, row.created, row.resource, row.bound, place, row.box.KEK, row.box.Bytes); err != nil {
		return row, key, err
	}
	if r != nil {
		_, err = tx.Exec(setCurrent, r.current, r.bound, r.id)
	}
	return row, key, err
}

// CreateKeys makes keys, bound to the resource unless that is zero, the last of them its current one.
func (k *Keyring) CreateKeys(ctx context.Context, who wire.Caller, count int, resource wire.URI) ([]wire.Key, error) {
	e := k.entry(who, "key.create", resource)
	if r := k.mayWrite(who, e); r != nil {
		return nil, k.answer(ctx, r)
	}
	if count < 1 || count > wire.MaxKeys {
		return nil, wire.Refuse(wire.StatusBadRequest, "count is out of range")
	}
	var keys []wire.Key
	out, repeated, err := k.once(ctx, who, []any{"create keys", count, resource.String()}, func(tx *store.Tx) (out result, err error) {
		wipeAll(keys)
		keys = nil
		var bind *resourceRow
		if resource != (wire.URI{}) {
			e.Resource = resource.String()
			r, err := k.mayFetch(tx, who, k.local(resource), e)
			if err != nil {
				return out, err
			}
			bind = &r
		}
		for range count {
			row, key, err := k.draw(tx, who, bind)
			if err != nil {
				return out, err
			}
			made, err := k.describe(row, key)
			key.Wipe()
			if err != nil {
				return out, err
			}
			keys = append(keys, made)
			out.Keys = append(out.Keys, row.id)
			e.Object = made.URI.String()
			if _, err := k.log.Append(tx, e); err != nil {
				return out, err
			}
		}
		return out, nil
	})
	if err != nil || repeated {
		wipeAll(keys)
		keys = nil
	}
	if err == nil && repeated {
		keys, err = k.again(ctx, who, out.Keys)
	}
	return keys, k.answer(ctx, err)
}

// again releases what a request had made that has come again.
func (k *Keyring) again(ctx context.Context, who wire.Caller, ids []string) (keys []wire.Key, err error) {
	err = k.update(ctx, func(tx *store.Tx) error {
		wipeAll(keys)
		keys = nil
		for _, id := range ids {
			key, err := k.fetch(tx, who, k.uri(wire.Keys, id))
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		wipeAll(keys)
		keys = nil
	}
	return keys, err
}

// BindKey binds an unbound key, which becomes the current one. Its creator alone does, on a resource that he is authorised on.
func (k *Keyring) BindKey(ctx context.Context, who wire.Caller, key, resource wire.URI) (wire.Key, error) {
	e := k.entry(who, "key.bind", key)
	e.Resource = resource.String()
	if r := k.mayWrite(who, e); r != nil {
		return wire.Key{}, k.answer(ctx, r)
	}
	out, _, err := k.once(ctx, who, []any{"bind key", key.String(), resource.String()}, func(tx *store.Tx) (out result, err error) {
		r, err := k.mayFetch(tx, who, k.local(resource), e)
		if err != nil {
			return out, err
		}
		return result{Keys: []string{k.local(key)}}, k.bind(tx, who, &r, key, e)
	})
	if err != nil {
		return wire.Key{}, k.answer(ctx, err)
	}
	keys, err := k.again(ctx, who, out.Keys)
	if err != nil {
		return wire.Key{}, k.answer(ctx, err)
	}
	return keys[0], nil
}

func (k *Keyring) bind(tx *store.Tx, who wire.Caller, r *resourceRow, key wire.URI, e audit.Entry) error {
	var row keyRow
	switch err := tx.One(getKey, []any{k.local(key), k.cfg.Host}, &row.id, &row.creator, &row.client, &row.created, &row.resource, &row.bound, &row.box.KEK, &row.box.Bytes); {
	case errors.Is(err, store.ErrNone):
		return refuse(e, forbidden, "no such key")
	case err != nil:
		return err
	case row.creator != k.subject(who.User, who.Domain):
		return refuse(e, forbidden, "another's key")
	case row.resource != "":
		return refuse(e, wire.Refuse(wire.StatusConflict, "the key is bound already"), "bound already")
	}
	r.bound++
	r.current = row.id
	if _, err := tx.Exec(bindKey, r.id, store.Micros(k.now()), r.bound, row.id); err != nil {
		return err
	}
	if _, err := tx.Exec(setCurrent, r.current, r.bound, r.id); err != nil {
		return err
	}
	_, err := k.log.Append(tx, e)
	return err
}

// CreateResource makes a resource with its keys and members, all or nothing. Who asks is a moderator of it. There is always a current key:
// one is made if none is asked for.
func (k *Keyring) CreateResource(ctx context.Context, who wire.Caller, with wire.NewResource) (wire.Resource, error) {
	e := k.entry(who, "resource.create", wire.URI{})
	if r := k.mayWrite(who, e); r != nil {
		return wire.Resource{}, k.answer(ctx, r)
	}
	if len(with.KeyURIs)+with.Count > wire.MaxKeys || len(with.AuthIDs)+len(with.ModeratorIDs) >= wire.MaxAuthIDs {
		return wire.Resource{}, wire.Refuse(wire.StatusBadRequest, "too many keys or users")
	}
	uris := make([]string, len(with.KeyURIs))
	for i, u := range with.KeyURIs {
		uris[i] = u.String()
	}
	request := []any{"create resource", with.AuthIDs, with.ModeratorIDs, with.Moderated, uris, with.Count}
	out, _, err := k.once(ctx, who, request, func(tx *store.Tx) (result, error) {
		r := resourceRow{id: wire.NewID().String()}
		e := e
		e.Object = k.uri(wire.Resources, r.id).String()
		e.Resource = e.Object
		if _, err := tx.Exec(addResource, r.id, k.cfg.Host, k.subject(who.User, who.Domain), store.Micros(k.now()), with.Moderated); err != nil {
			return result{}, err
		}
		if _, err := k.log.Append(tx, e); err != nil {
			return result{}, err
		}
		self := k.subject(who.User, who.Domain)
		if k.named(who.User) == self {
			self = who.User
		}
		if _, err := k.letIn(tx, who, r, append([]string{self}, with.ModeratorIDs...), wire.Moderator); err != nil {
			return result{}, err
		}
		if _, err := k.letIn(tx, who, r, with.AuthIDs, wire.Participant); err != nil {
			return result{}, err
		}
		for _, u := range with.KeyURIs {
			e.Event, e.Object = "key.bind", u.String()
			if err := k.bind(tx, who, &r, u, e); err != nil {
				return result{}, err
			}
		}
		count := with.Count
		if count == 0 && len(with.KeyURIs) == 0 {
			count = 1
		}
		for range count {
			if err := k.renew(tx, who, &r); err != nil {
				return result{}, err
			}
		}
		return result{Resource: r.id}, nil
	})
	if err != nil {
		return wire.Resource{}, k.answer(ctx, err)
	}
	return k.Resource(ctx, who, k.uri(wire.Resources, out.Resource))
}

// renew makes a new current key. Nobody gets it by that.
func (k *Keyring) renew(tx *store.Tx, who wire.Caller, r *resourceRow) error {
	row, key, err := k.draw(tx, who, r)
	if err != nil {
		return err
	}
	key.Wipe()
	e := k.entry(who, "key.rotate", k.uri(wire.Keys, row.id))
	e.Resource = k.uri(wire.Resources, r.id).String()
	_, err = k.log.Append(tx, e)
	return err
}

// letIn authorises users. Who is in already keeps the higher role.
func (k *Keyring) letIn(tx *store.Tx, who wire.Caller, r resourceRow, ids []string, role wire.Role) (out []member, err error) {
	for _, id := range ids {
		m := member{ID: wire.NewID().String(), Resource: r.id, Subject: k.named(id), AuthID: id, Role: role, Created: store.Micros(k.now())}
		switch err := tx.One(getRole, []any{r.id, m.Subject}, &m.ID, &m.AuthID, &m.Role, &m.Created); {
		case errors.Is(err, store.ErrNone):
			if _, err := tx.Exec(addMember, m.ID, r.id, m.Subject, m.AuthID, string(role), m.Created); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		case role == wire.Moderator && m.Role != role:
			m.Role = role
			if _, err := tx.Exec(setRole, string(role), m.ID); err != nil {
				return nil, err
			}
		default:
			out = append(out, m)
			continue
		}
		e := k.entry(who, "member.add", k.uri(wire.Authorizations, m.ID))
		e.Object, e.Resource, e.Reason = m.Subject, k.uri(wire.Resources, r.id).String(), string(role)
		if _, err := k.log.Append(tx, e); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// Resource describes a resource to who may fetch its keys.
func (k *Keyring) Resource(ctx context.Context, who wire.Caller, uri wire.URI) (wire.Resource, error) {
	var out wire.Resource
	err := k.cfg.Store.View(ctx, func(tx *store.Tx) error {
		e := k.entry(who, "resource.read", uri)
		e.Resource = uri.String()
		r, err := k.mayFetch(tx, who, k.local(uri), e)
		if err != nil {
			return err
		}
		out = wire.Resource{URI: uri, Moderated: r.moderated, Current: k.uri(wire.Keys, r.current)}
		if out.Keys, err = store.All(tx, keysOf, []any{r.id}, func(row store.Row) (wire.URI, error) {
			var id string
			err := row.Scan(&id)
			return k.uri(wire.Keys, id), err
		}); err != nil {
			return err
		}
		members, err := store.All(tx, membersOf, []any{r.id}, scanMember)
		for _, m := range members {
			out.Authorizations = append(out.Authorizations, k.authorization(m))
		}
		return err
	})
	if err != nil {
		return wire.Resource{}, k.answer(ctx, err)
	}
	return out, nil
}

// mayDecide says whether a caller may decide who is in: any member, or where the resource is moderated its moderators.
func mayDecide(r resourceRow, role wire.Role, e audit.Entry) error {
	if r.caller.Role != wire.Moderator && (r.moderated || role == wire.Moderator) {
		return refuse(e, wire.Refuse(wire.StatusForbidden, "moderators decide"), "not a moderator")
	}
	return nil
}

// Authorize lets users in, all or none. They may fetch all keys, those from before too.
func (k *Keyring) Authorize(ctx context.Context, who wire.Caller, resource wire.URI, ids []string, role wire.Role) ([]wire.Authorization, error) {
	e := k.entry(who, "member.add", resource)
	e.Resource = resource.String()
	if r := k.mayWrite(who, e); r != nil {
		return nil, k.answer(ctx, r)
	}
	if len(ids) == 0 || len(ids) > wire.MaxAuthIDs || role != wire.Participant && role != wire.Moderator {
		return nil, wire.Refuse(wire.StatusBadRequest, "whom, and as what?")
	}
	out, _, err := k.once(ctx, who, []any{"authorize", resource.String(), ids, role}, func(tx *store.Tx) (out result, err error) {
		r, err := k.mayFetch(tx, who, k.local(resource), e)
		if err != nil {
			return out, err
		}
		if err := mayDecide(r, role, e); err != nil {
			return out, err
		}
		out.Members, err = k.letIn(tx, who, r, ids, role)
		return out, err
	})
	if err != nil {
		return nil, k.answer(ctx, err)
	}
	var list []wire.Authorization
	for _, m := range out.Members {
		list = append(list, k.authorization(m))
	}
	return list, nil
}

// Deauthorize removes a user: once it returns he fetches nothing more, of before or after. The resource has a new current key by then.
// Anybody may remove himself.
func (k *Keyring) Deauthorize(ctx context.Context, who wire.Caller, uri wire.URI) (wire.Authorization, wire.URI, error) {
	e := k.entry(who, "member.remove", uri)
	if r := k.mayWrite(who, e); r != nil {
		return wire.Authorization{}, wire.URI{}, k.answer(ctx, r)
	}
	var m member
	err := k.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		m, err = readMember(tx, k.local(uri))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNone) {
		return wire.Authorization{}, wire.URI{}, k.answer(ctx, err)
	}
	if err == nil { // what is remembered goes before anything is written, and what others read meanwhile goes after it
		k.cache.drop(k.uri(wire.Resources, m.Resource))
		defer k.cache.drop(k.uri(wire.Resources, m.Resource))
	}
	out, _, err := k.once(ctx, who, []any{"deauthorize", uri.String()}, func(tx *store.Tx) (out result, err error) {
		m, err := readMember(tx, k.local(uri))
		if errors.Is(err, store.ErrNone) {
			return out, refuse(e, forbidden, "no such authorization")
		}
		if err != nil {
			return out, err
		}
		e := e
		e.Object, e.Resource = m.Subject, k.uri(wire.Resources, m.Resource).String()
		r, err := k.mayFetch(tx, who, m.Resource, e)
		if err != nil {
			return out, err
		}
		if r.caller.ID != m.ID {
			if err := mayDecide(r, wire.Participant, e); err != nil {
				return out, err
			}
		}
		if err := k.putOut(tx, who, &r, m, e); err != nil {
			return out, err
		}
		return result{Members: []member{m}, Current: r.current}, nil
	})
	if err != nil {
		return wire.Authorization{}, wire.URI{}, k.answer(ctx, err)
	}
	return k.authorization(out.Members[0]), k.uri(wire.Keys, out.Current), nil
}

func readMember(tx *store.Tx, id string) (m member, err error) {
	err = tx.One(getMember, []any{id}, &m.ID, &m.Resource, &m.Subject, &m.AuthID, &m.Role, &m.Created)
	return m, err
}

// putOut removes a member and rotates. A moderated resource whose last moderator goes has the one who is in longest as the next.
func (k *Keyring) putOut(tx *store.Tx, who wire.Caller, r *resourceRow, m member, e audit.Entry) error {
	if _, err := tx.Exec(dropMember, m.ID); err != nil {
		return err
	}
	if _, err := k.log.Append(tx, e); err != nil {
		return err
	}
	left, err := store.All(tx, membersOf, []any{r.id}, scanMember)
	if err != nil {
		return err
	}
	if r.moderated && len(left) > 0 && !slices.ContainsFunc(left, func(o member) bool { return o.Role == wire.Moderator }) {
		if _, err := k.letIn(tx, who, *r, []string{left[0].Subject}, wire.Moderator); err != nil {
			return err
		}
	}
	return k.renew(tx, who, r)
}
