package kms_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/token"
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

// What a server asks is what a keyring answers.
var (
	_ kms.Keys      = (*keyring.Keyring)(nil)
	_ kms.Resources = (*keyring.Keyring)(nil)
)

// audited is a journal in the audit of a keyring.
type audited struct{ ring *keyring.Keyring }

func (j audited) Opened(ctx context.Context, who wire.Caller) error {
	return j.ring.Note(ctx, who, "session.open", audit.Done, who.Suite)
}

func (j audited) Refused(ctx context.Context, who wire.Caller, cause kms.Cause) {
	_ = j.ring.Note(ctx, who, "session.open", audit.Refused, string(cause)) // refused it is anyhow
}

// TestKeyringBehindTheServer: everything real, from the client over the channel to the database. Members fetch until they are removed, a
// service once the organisation consents, and the audit has all of it, whole.
func TestKeyringBehindTheServer(t *testing.T) {
	ctx := t.Context()
	s, err := store.Open(ctx, store.Config{Database: filepath.Join(t.TempDir(), "kms.db"), Domains: keyring.Domains()})
	check(t, err)
	defer func() { check(t, s.Close()) }()
	keeper, shares, err := seal.NewShares(3, 5)
	check(t, err)
	barrier := seal.New(time.Now)
	check(t, barrier.Init(ctx, s, keeper))
	check(t, keeper.Close())
	var g seal.Gathering
	for _, share := range shares[1:4] {
		_, _, err := g.Add(share)
		check(t, err)
	}
	keeper, err = g.Keeper()
	check(t, err)
	check(t, barrier.Unseal(ctx, s, keeper))
	defer func() { check(t, barrier.Seal()) }()
	ring, err := keyring.Open(keyring.Config{Host: domain, Store: s, Barrier: barrier, Spool: filepath.Join(t.TempDir(), "spool")})
	check(t, err)
	defer func() { check(t, ring.Close()) }()

	l := newLab(t, kms.Config{})
	server, err := kms.New(l.cfg, kms.Parts{Keys: ring, Resources: ring, Tokens: l.issuer.Verifier(), Journal: audited{ring}, Gate: l.gate}, l.identities...)
	check(t, err)
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	bot := newUser(t, "u_search")
	bot.edit = func(c *token.Claims) { c.Service = string(keyring.Index) }
	a, b, search := l.client(newUser(t, "u_alice")), l.client(newUser(t, "u_bob")), l.client(bot)

	space, err := a.CreateResource(ctx, wire.NewResource{AuthIDs: []string{"u_bob"}, Count: 2, Moderated: true})
	check(t, err)
	if len(space.Keys) != 2 || len(space.Authorizations) != 2 {
		t.Fatalf("%+v", space)
	}
	ofAlice, err := a.Key(ctx, space.Current)
	check(t, err)
	ofBob, err := b.Key(ctx, space.Current)
	check(t, err)
	if !ofAlice.Material.Equal(ofBob.Material) || ofAlice.Material.Expose() == nil {
		t.Error("members have different keys")
	}
	_, err = search.Key(ctx, space.Current)
	wants(t, err, wire.StatusForbidden)
	check(t, ring.SetConsent(ctx, "olga", keyring.Index, true))
	ofSearch, err := search.Key(ctx, space.Current)
	check(t, err)
	if !ofSearch.Material.Equal(ofBob.Material) {
		t.Error("the service has another key")
	}
	var bob wire.URI
	for _, auth := range space.Authorizations {
		if auth.AuthID == "u_bob" {
			bob = auth.URI
		}
	}
	current, err := a.Deauthorize(ctx, bob)
	check(t, err)
	if current == space.Current {
		t.Error("no new key")
	}
	for _, uri := range []wire.URI{space.Current, current} {
		_, err = b.Key(ctx, uri)
		wants(t, err, wire.StatusForbidden)
		_, err = a.Key(ctx, uri)
		check(t, err)
	}
	reports, err := ring.Audit().VerifyAll(ctx, s)
	check(t, err)
	for _, r := range reports {
		if len(r.Problems) > 0 {
			t.Errorf("%+v", r)
		}
	}
	counts := map[string]int{}
	check(t, s.View(ctx, func(tx *store.Tx) error {
		rows, err := audit.Rows(tx, domain, 0, 1000)
		for _, r := range rows {
			counts[r.Event+" "+string(r.Outcome)]++
		}
		return err
	}))
	if counts["session.open done"] != 3 || counts["key.release done"] != 5 || counts["key.release refused"] != 3 {
		t.Errorf("the audit has %v", counts)
	}
}
