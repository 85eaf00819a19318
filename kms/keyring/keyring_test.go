package keyring_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/wire"
)

func TestQueries(t *testing.T) { storetest.Check(t, keyring.Domains()...) }

// A resource with its key and members in one request; members fetch, others do not, whatever URL they know (rows K1, K10, F1, F5).
func TestMembersFetch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob", "carol@b.example"}})
		if len(space.Keys) != 1 || space.Current != space.Keys[0] || len(space.Authorizations) != 3 {
			t.Fatalf("%+v", space)
		}
		key := r.key(user("alice"), space.Current)
		if len(key.Material.Expose()) != 32 || key.Resource != space.URI || key.Bound.IsZero() {
			t.Errorf("%+v", key)
		}
		for _, who := range []wire.Caller{user("bob"), user("bob@a.example"), peer("carol"), peer("carol@b.example")} {
			if got := r.key(who, space.Current); !got.Material.Equal(key.Material) {
				t.Errorf("%+v: another key", who)
			}
		}
		mallory := user("carol")
		mallory.Domain = "b.example" // without the KMS of that domain
		other := peer("carol")
		other.Domain = "a.example" // a KMS for a user who is not of its domain
		for _, who := range []wire.Caller{user("mallory"), user("carol"), peer("bob"), peer("alice@a.example"), mallory, other, {}, service(keyring.Index)} {
			r.refused(wire.StatusForbidden, who, space.Current)
		}
		r.refused(wire.StatusForbidden, user("alice"), wire.NewURI(host, wire.Keys))
		r.refused(wire.StatusForbidden, user("alice"), wire.URI{Host: "b.example", Kind: wire.Keys, ID: space.Current.ID})
		if _, err := r.Resource(t.Context(), user("mallory"), space.URI); status(t, err) != wire.StatusForbidden {
			t.Errorf("the members: %v", err)
		}
		if _, err := r.ResourceKeys(t.Context(), user("mallory"), space.URI, wire.Range{Count: 10}); status(t, err) != wire.StatusForbidden {
			t.Errorf("all keys: %v", err)
		}
		// Each of it is in the audit, with the cause that the stranger was not told.
		if n, m := r.count("key.release", audit.Done, space.Current.String()), r.count("key.release", audit.Refused, space.Current.String()); n != 5 || m != 8 {
			t.Errorf("%d releases and %d refusals in the audit, want 5 and 8", n, m)
		}
		r.whole(t.Context())
	})
}

// Who is added sees what was before; who is removed fetches nothing, of before or after, and there is a new key at once (rows R2, R3, R4, R5).
func TestComingAndGoing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob"}})
		first := r.key(user("alice"), space.Current)
		auths, err := r.Authorize(t.Context(), user("bob"), space.URI, []string{"carol", "dave"}, wire.Participant)
		if err != nil || len(auths) != 2 {
			t.Fatalf("%+v, %v", auths, err)
		}
		if got := r.key(user("carol"), space.Current); !got.Material.Equal(first.Material) {
			t.Error("who was added sees another key")
		}
		gone, current, err := r.Deauthorize(t.Context(), user("bob"), auths[0].URI)
		if err != nil || gone.AuthID != "carol" || current == space.Current {
			t.Fatalf("%+v, %v, %v", gone, current, err)
		}
		r.refused(wire.StatusForbidden, user("carol"), space.Current)
		r.refused(wire.StatusForbidden, user("carol"), current)
		second := r.key(user("dave"), current)
		if second.Material.Equal(first.Material) {
			t.Error("the new key is the old one")
		}
		if got := r.key(user("dave"), space.Current); !got.Material.Equal(first.Material) {
			t.Error("old content is lost for who stays")
		}
		now, err := r.Resource(t.Context(), user("dave"), space.URI)
		if err != nil || now.Current != current || len(now.Keys) != 2 || len(now.Authorizations) != 3 {
			t.Errorf("%+v, %v", now, err)
		}
		keys, err := r.ResourceKeys(t.Context(), user("dave"), space.URI, wire.Range{Count: 10})
		if err != nil || len(keys) != 2 || !keys[0].Material.Equal(second.Material) || !keys[1].Material.Equal(first.Material) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		if _, err := r.ResourceKeys(t.Context(), user("carol"), space.URI, wire.Range{Count: 10}); status(t, err) != wire.StatusForbidden {
			t.Errorf("all keys: %v", err)
		}
		if _, _, err := r.Deauthorize(t.Context(), user("bob"), auths[0].URI); status(t, err) != wire.StatusForbidden {
			t.Errorf("removed twice: %v", err)
		}
		r.whole(t.Context())
	})
}

// Where a resource is moderated, moderators decide who is in; there is always one.
func TestModerators(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob", "carol"}, Moderated: true})
		auth := map[string]wire.URI{}
		for _, a := range space.Authorizations {
			auth[a.AuthID] = a.URI
		}
		if _, err := r.Authorize(t.Context(), user("bob"), space.URI, []string{"dave"}, wire.Participant); status(t, err) != wire.StatusForbidden {
			t.Errorf("a participant lets somebody in: %v", err)
		}
		if _, _, err := r.Deauthorize(t.Context(), user("bob"), auth["carol"]); status(t, err) != wire.StatusForbidden {
			t.Errorf("a participant removes somebody: %v", err)
		}
		if _, _, err := r.Deauthorize(t.Context(), user("carol"), auth["carol"]); err != nil {
			t.Errorf("a participant leaves: %v", err)
		}
		if _, _, err := r.Deauthorize(t.Context(), user("alice"), auth["alice"]); err != nil {
			t.Errorf("the moderator leaves: %v", err)
		}
		if _, err := r.Authorize(t.Context(), user("bob"), space.URI, []string{"dave"}, wire.Moderator); err != nil {
			t.Errorf("nobody moderates: %v", err)
		}
		open := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob"}})
		if _, err := r.Authorize(t.Context(), user("bob"), open.URI, []string{"bob"}, wire.Moderator); status(t, err) != wire.StatusForbidden {
			t.Errorf("a participant makes himself a moderator: %v", err)
		}
	})
}

// A key is its creator's until he binds it, once; then it is the resource's, and the current one.
func TestBinding(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		keys, err := r.CreateKeys(t.Context(), user("alice"), 3, wire.URI{})
		if err != nil || len(keys) != 3 || keys[0].Material.Equal(keys[1].Material) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if got := r.key(user("alice"), keys[0].URI); !got.Material.Equal(keys[0].Material) {
			t.Error("another key")
		}
		for _, who := range []wire.Caller{user("bob"), peer("alice@a.example"), peer("alice"), service(keyring.API)} {
			r.refused(wire.StatusForbidden, who, keys[0].URI)
		}
		space := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob"}, KeyURIs: []wire.URI{keys[0].URI}, Count: 1})
		if len(space.Keys) != 2 || space.Current == keys[0].URI {
			t.Errorf("%+v", space)
		}
		if _, err := r.BindKey(t.Context(), user("bob"), keys[1].URI, space.URI); status(t, err) != wire.StatusForbidden {
			t.Errorf("another's key: %v", err)
		}
		bound, err := r.BindKey(t.Context(), user("alice"), keys[1].URI, space.URI)
		if err != nil || !bound.Material.Equal(keys[1].Material) || bound.Resource != space.URI {
			t.Errorf("%+v, %v", bound, err)
		}
		if _, err := r.BindKey(t.Context(), user("alice"), keys[1].URI, space.URI); status(t, err) != wire.StatusConflict {
			t.Errorf("bound twice: %v", err)
		}
		if got := r.key(user("bob"), keys[1].URI); !got.Material.Equal(keys[1].Material) {
			t.Error("a member has another key")
		}
		other := r.space(user("mallory"), wire.NewResource{})
		if _, err := r.BindKey(t.Context(), user("alice"), keys[2].URI, other.URI); status(t, err) != wire.StatusForbidden {
			t.Errorf("to a resource of others: %v", err)
		}
		// All or nothing.
		before := len(r.rows())
		if _, err := r.CreateResource(t.Context(), user("alice"), wire.NewResource{KeyURIs: []wire.URI{keys[2].URI, keys[1].URI}}); status(t, err) != wire.StatusConflict {
			t.Errorf("a resource with a key that is bound: %v", err)
		}
		if rows := r.rows()[before:]; len(rows) != 1 || rows[0].Outcome != audit.Refused {
			t.Errorf("the audit has %v", rows)
		}
		made, err := r.CreateKeys(t.Context(), user("bob"), 2, space.URI) // for files, the last one for what comes
		if err != nil || len(made) != 2 {
			t.Fatal(err)
		}
		if now, err := r.Resource(t.Context(), user("bob"), space.URI); err != nil || now.Current != made[1].URI || len(now.Keys) != 5 {
			t.Errorf("%+v, %v", now, err)
		}
		r.whole(t.Context())
	})
}

// A request that comes again is not done twice, and its id is good for no other one (row K1).
func TestRequestsComeAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		alice := user("alice")
		one := r.space(with(alice, "1"), wire.NewResource{AuthIDs: []string{"bob"}})
		if again := r.space(with(alice, "1"), wire.NewResource{AuthIDs: []string{"bob"}}); again.URI != one.URI {
			t.Error("two resources for one request")
		}
		if other := r.space(with(user("carol"), "1"), wire.NewResource{}); other.URI == one.URI {
			t.Error("a request id of another user")
		}
		if _, err := r.CreateResource(t.Context(), with(alice, "1"), wire.NewResource{}); status(t, err) != wire.StatusConflict {
			t.Errorf("another request under the same id: %v", err)
		}
		if _, err := r.CreateKeys(t.Context(), with(alice, "1"), 1, wire.URI{}); status(t, err) != wire.StatusConflict {
			t.Errorf("another kind of request under the same id: %v", err)
		}
		keys, err := r.CreateKeys(t.Context(), with(alice, "2"), 2, one.URI)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.CreateKeys(t.Context(), with(alice, "2"), 2, one.URI)
		if err != nil || again[0].URI != keys[0].URI || !again[1].Material.Equal(keys[1].Material) {
			t.Errorf("%v", err)
		}
		auths, err := r.Authorize(t.Context(), with(alice, "3"), one.URI, []string{"dave"}, wire.Participant)
		if err != nil {
			t.Fatal(err)
		}
		_, first, err := r.Deauthorize(t.Context(), with(alice, "4"), auths[0].URI)
		if err != nil {
			t.Fatal(err)
		}
		gone, second, err := r.Deauthorize(t.Context(), with(alice, "4"), auths[0].URI)
		if err != nil || first != second || gone.AuthID != "dave" {
			t.Errorf("removed again: %+v, %v, %v", gone, second, err)
		}
		// Whoever was removed meanwhile gets no keys by repeating a request.
		bob := r.space(user("alice"), wire.NewResource{AuthIDs: []string{"bob"}})
		if _, err := r.CreateKeys(t.Context(), with(user("bob"), "5"), 1, bob.URI); err != nil {
			t.Fatal(err)
		}
		for _, a := range bob.Authorizations {
			if a.AuthID == "bob" {
				if _, _, err := r.Deauthorize(t.Context(), alice, a.URI); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := r.CreateKeys(t.Context(), with(user("bob"), "5"), 1, bob.URI); status(t, err) != wire.StatusForbidden {
			t.Errorf("repeated after the removal: %v", err)
		}
		r.clock.advance(72 * time.Hour)
		if err := r.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.whole(t.Context())
	})
}

// Each type of plaintext service gets keys if the organisation that owns the space consents to that type, and until it does so no more; each
// release says which (rows P2, P3, P6).
func TestConsent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{})
		for _, kind := range keyring.Services() {
			r.refused(wire.StatusForbidden, service(kind), space.Current)
			if err := r.SetConsent(t.Context(), "olga", kind, true); err != nil {
				t.Fatal(err)
			}
			r.key(service(kind), space.Current)
			for _, other := range keyring.Services() {
				if other != kind {
					r.refused(wire.StatusForbidden, service(other), space.Current)
				}
			}
			if all, err := r.Consents(t.Context()); err != nil || len(all) != 1 || all[0] != kind {
				t.Errorf("%v, %v", all, err)
			}
			foreign := peer("svc")
			foreign.Service = string(kind)
			r.refused(wire.StatusForbidden, foreign, space.Current)
			if _, err := r.CreateKeys(t.Context(), service(kind), 1, space.URI); status(t, err) != wire.StatusForbidden {
				t.Errorf("%s makes keys: %v", kind, err)
			}
			if err := r.SetConsent(t.Context(), "olga", kind, false); err != nil {
				t.Fatal(err)
			}
			r.refused(wire.StatusForbidden, service(kind), space.Current)
			n := 0
			for _, row := range r.rows() {
				if row.Event == "key.release" && row.Service == string(kind) && row.Outcome == audit.Done {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s: %d releases in the audit", kind, n)
			}
		}
		if err := r.SetConsent(t.Context(), "olga", "everything", true); !errors.Is(err, keyring.ErrService) {
			t.Errorf("a type that is none: %v", err)
		}
		r.refused(wire.StatusForbidden, service("everything"), space.Current)
		r.whole(t.Context())
	})
}

// Keys are disabled for days before they are gone, two persons want it, and until then it can be taken back (row C16).
func TestDeletionWaits(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		r := start(t, e.Fresh(t), nil)
		space := r.space(user("alice"), wire.NewResource{})
		kept := r.space(user("alice"), wire.NewResource{})
		key := r.key(user("alice"), space.Current)
		ctx := t.Context()
		for _, days := range []int{0, 6, 31} {
			if err := r.AskDeletion(ctx, "olga", space.URI, days); !errors.Is(err, keyring.ErrDays) {
				t.Errorf("%d days: %v", days, err)
			}
		}
		if _, err := r.AgreeDeletion(ctx, "otto", space.URI); !errors.Is(err, keyring.ErrDeletion) {
			t.Errorf("to what nobody asked for: %v", err)
		}
		if err := r.AskDeletion(ctx, "olga", space.URI, 7); err != nil {
			t.Fatal(err)
		}
		r.key(user("alice"), space.Current)
		if _, err := r.AgreeDeletion(ctx, "olga", space.URI); !errors.Is(err, keyring.ErrSame) {
			t.Errorf("the same person: %v", err)
		}
		agree := func() {
			t.Helper()
			d, err := r.AgreeDeletion(ctx, "otto", space.URI)
			if err != nil || !d.Due.Equal(r.clock.Now().AddDate(0, 0, 7)) {
				t.Fatalf("%+v, %v", d, err)
			}
			r.refused(wire.StatusForbidden, user("alice"), space.Current)
			if _, err := r.CreateKeys(ctx, user("alice"), 1, space.URI); status(t, err) != wire.StatusForbidden {
				t.Errorf("a key for what is to be deleted: %v", err)
			}
		}
		agree()
		if err := r.CancelDeletion(ctx, "olga", space.URI); err != nil {
			t.Fatal(err)
		}
		if got := r.key(user("alice"), space.Current); !got.Material.Equal(key.Material) {
			t.Error("another key after it was taken back")
		}
		if err := r.AskDeletion(ctx, "olga", space.URI, 7); err != nil {
			t.Fatal(err)
		}
		agree()
		r.clock.advance(7*24*time.Hour - time.Second)
		if err := r.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		if n := r.count("key.destroy", audit.Done, ""); n != 0 {
			t.Error("destroyed before its time")
		}
		r.clock.advance(-3 * 24 * time.Hour) // set back: it waits longer
		if err := r.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("a clock that was set back: %v", err)
		}
		r.clock.advance(3*24*time.Hour + time.Second)
		if err := r.Ready(); err != nil {
			t.Errorf("the clock is right again: %v", err)
		}
		if err := r.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		if n := r.count("key.destroy", audit.Done, space.URI.String()); n != 1 {
			t.Errorf("destroyed %d times", n)
		}
		r.refused(wire.StatusForbidden, user("alice"), space.Current)
		if err := r.CancelDeletion(ctx, "olga", space.URI); !errors.Is(err, keyring.ErrDeletion) {
			t.Errorf("taken back too late: %v", err)
		}
		r.key(user("alice"), kept.Current)
		if _, err := r.RotateKEK(ctx, "olga"); err != nil { // what is destroyed is in nobody's way
			t.Error(err)
		}
		r.whole(ctx)
	})
}

// Sealed, nothing is released; keys that are remembered neither.
func TestSealed(t *testing.T) {
	r := start(t, storetest.SQLite.Fresh(t), nil)
	space := r.space(user("alice"), wire.NewResource{})
	r.key(user("alice"), space.Current)
	if err := r.barrier.Seal(); err != nil {
		t.Fatal(err)
	}
	r.refused(wire.StatusUnavailable, user("alice"), space.Current)
	if _, err := r.CreateResource(t.Context(), user("alice"), wire.NewResource{}); status(t, err) != wire.StatusUnavailable {
		t.Error(err)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("readiness: %v", err)
	}
}
