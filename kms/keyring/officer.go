package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

// Service is a type of plaintext service. An organisation consents to each by itself.
type Service string

// The types of plaintext services.
const (
	Media     Service = "media"      // transcoding, mixing, telephony, recording
	Documents Service = "documents"  // transcoding of documents
	API       Service = "api"        // the API server, on behalf of bots
	Index     Service = "index"      // search
	Discovery Service = "ediscovery" // search for compliance
	Calendar  Service = "calendar"   // titles for the calendar
	Interop   Service = "interop"    // messaging and presence of other systems
	Assistant Service = "assistant"  // automation
)

// Services are all types.
func Services() []Service {
	return []Service{Media, Documents, API, Index, Discovery, Calendar, Interop, Assistant}
}

var (
	setConsent   = Domain.Query(`INSERT INTO kr_consent (org, service, allowed, officer, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (org, service) DO UPDATE SET allowed = excluded.allowed, officer = excluded.officer, at = excluded.at`)
	allConsents  = Domain.Query(`SELECT service FROM kr_consent WHERE org = ? AND allowed ORDER BY service`)
	addDeletion  = Domain.Query(`INSERT INTO kr_deletion (resource, org, asked, days, agreed, due) VALUES (?, ?, ?, ?, '', 0)`)
	getDeletion  = Domain.Query(`SELECT resource, asked, days, agreed, due FROM kr_deletion WHERE resource = ? AND org = ?`)
	setDeletion  = Domain.Query(`UPDATE kr_deletion SET agreed = ?, due = ? WHERE resource = ?`)
	dropDeletion = Domain.Query(`DELETE FROM kr_deletion WHERE resource = ?`)
	dueDeletions = Domain.Query(`SELECT resource, asked, days, agreed, due FROM kr_deletion WHERE org = ? AND due > 0 AND due <= ? ORDER BY due LIMIT 100`)
	setState     = Domain.Query(`UPDATE kr_resource SET state = ? WHERE id = ?`)
	destroyKeys  = Domain.Query(`UPDATE kr_key SET wrapped = ?, kek = '' WHERE resource = ?`)
	staleKeys    = Domain.Query(`SELECT ` + keyColumns + ` FROM kr_key WHERE org = ? AND kek <> ? AND kek <> '' ORDER BY id LIMIT 100`)
	rewrapKey    = Domain.Query(`UPDATE kr_key SET kek = ?, wrapped = ? WHERE id = ? AND kek = ?`)
)

// Errors of officers' calls.
var (
	ErrService  = errors.New("keyring: no such type of service")
	ErrDays     = errors.New("keyring: keys wait 7 to 30 days before they are deleted")
	ErrSame     = errors.New("keyring: a second person has to agree to a deletion")
	ErrDeletion = errors.New("keyring: there is no such deletion, or it is not at that point")
)

func (k *Keyring) official(officer, event, object, reason string) audit.Entry {
	return audit.Entry{Org: k.cfg.Host, Event: event, Outcome: audit.Done, Actor: officer, Object: object, Reason: reason}
}

// SetConsent lets a type of service see plaintext, or no more. Taken back, it holds for the next release.
func (k *Keyring) SetConsent(ctx context.Context, officer string, service Service, allowed bool) error {
	if !slices.Contains(Services(), service) {
		return ErrService
	}
	k.cache.dropServices(string(service))
	defer k.cache.dropServices(string(service))
	return k.update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(setConsent, k.cfg.Host, string(service), allowed, officer, store.Micros(k.now())); err != nil {
			return err
		}
		_, err := k.log.Append(tx, k.official(officer, "consent.set", string(service), fmt.Sprintf("allowed %v", allowed)))
		return err
	})
}

// Consents returns the types that may see plaintext.
func (k *Keyring) Consents(ctx context.Context) (out []Service, err error) {
	err = k.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		out, err = store.All(tx, allConsents, []any{k.cfg.Host}, func(r store.Row) (s Service, err error) {
			err = r.Scan(&s)
			return s, err
		})
		return err
	})
	return out, err
}

// Deletion is a resource whose keys are to be deleted.
type Deletion struct {
	Resource wire.URI
	Asked    string // by whom
	Agreed   string // by whom; empty: nobody yet, and nothing has changed
	Days     int
	Due      time.Time
}

func (k *Keyring) deletion(tx *store.Tx, resource wire.URI) (Deletion, error) {
	var d Deletion
	var id string
	var days, due int64
	err := tx.One(getDeletion, []any{k.local(resource), k.cfg.Host}, &id, &d.Asked, &days, &d.Agreed, &due)
	if errors.Is(err, store.ErrNone) {
		return d, ErrDeletion
	}
	d.Resource, d.Days, d.Due = resource, int(days), store.Time(due)
	return d, err
}

// AskDeletion asks for the keys of a resource to be deleted. Nothing happens until another officer agrees.
func (k *Keyring) AskDeletion(ctx context.Context, officer string, resource wire.URI, days int) error {
	if days < 7 || days > 30 {
		return ErrDays
	}
	return k.update(ctx, func(tx *store.Tx) error {
		e := k.official(officer, "deletion.ask", resource.String(), fmt.Sprintf("%d days", days))
		if _, err := k.resource(tx, k.local(resource), e); err != nil {
			return ErrDeletion
		}
		if _, err := k.deletion(tx, resource); !errors.Is(err, ErrDeletion) {
			return errors.Join(err, ErrDeletion)
		}
		if _, err := tx.Exec(addDeletion, k.local(resource), k.cfg.Host, officer, days); err != nil {
			return err
		}
		_, err := k.log.Append(tx, e)
		return err
	})
}

// AgreeDeletion is the second person's word: the keys are disabled at once, and gone after the days that were asked for.
func (k *Keyring) AgreeDeletion(ctx context.Context, officer string, resource wire.URI) (Deletion, error) {
	k.cache.drop(resource)
	defer k.cache.drop(resource)
	var d Deletion
	err := k.update(ctx, func(tx *store.Tx) (err error) {
		if d, err = k.deletion(tx, resource); err != nil {
			return err
		}
		switch {
		case d.Agreed != "":
			return ErrDeletion
		case d.Asked == officer:
			return ErrSame
		}
		d.Agreed, d.Due = officer, store.Time(store.Micros(k.now().AddDate(0, 0, d.Days)))
		if _, err := tx.Exec(setDeletion, officer, store.Micros(d.Due), k.local(resource)); err != nil {
			return err
		}
		if _, err := tx.Exec(setState, disabled, k.local(resource)); err != nil {
			return err
		}
		_, err = k.log.Append(tx, k.official(officer, "deletion.agree", resource.String(), "due "+d.Due.Format(time.RFC3339)))
		return err
	})
	return d, err
}

// CancelDeletion takes a deletion back, by either officer or a third one, as long as it is not done.
func (k *Keyring) CancelDeletion(ctx context.Context, officer string, resource wire.URI) error {
	return k.update(ctx, func(tx *store.Tx) error {
		if _, err := k.deletion(tx, resource); err != nil {
			return err
		}
		if _, err := tx.Exec(dropDeletion, k.local(resource)); err != nil {
			return err
		}
		if _, err := tx.Exec(setState, active, k.local(resource)); err != nil {
			return err
		}
		_, err := k.log.Append(tx, k.official(officer, "deletion.cancel", resource.String(), ""))
		return err
	})
}

// destroyDue deletes the keys whose waiting is over. A clock that has gone back lets them wait longer.
func (k *Keyring) destroyDue(ctx context.Context) error {
	now := k.now()
	return k.update(ctx, func(tx *store.Tx) error {
		type row struct{ resource, asked, agreed string }
		rows, err := store.All(tx, dueDeletions, []any{k.cfg.Host, store.Micros(now)}, func(r store.Row) (out row, err error) {
			var days, due int64
			err = r.Scan(&out.resource, &out.asked, &days, &out.agreed, &due)
			return out, err
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			if _, err := tx.Exec(destroyKeys, []byte{}, r.resource); err != nil {
				return err
			}
			if _, err := tx.Exec(setState, destroyed, r.resource); err != nil {
				return err
			}
			if _, err := tx.Exec(dropDeletion, r.resource); err != nil {
				return err
			}
			e := k.official("", "key.destroy", k.uri(wire.Resources, r.resource).String(), "asked by "+r.asked+", agreed by "+r.agreed)
			if _, err := k.log.Append(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// RotateKEK makes a new key-encryption key and wraps every key by it, while all of them are in use. Broken off, it goes on at Resume.
func (k *Keyring) RotateKEK(ctx context.Context, officer string) (int, error) {
	err := k.update(ctx, func(tx *store.Tx) error {
		for _, org := range []string{k.cfg.Host, ""} {
			if err := k.cfg.Barrier.NewKEK(tx, org); err != nil {
				return err
			}
		}
		_, err := k.log.Append(tx, k.official(officer, "kek.rotate", "", ""))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		return 0, err
	}
	return k.resumeKEK(ctx)
}

func (k *Keyring) resumeKEK(ctx context.Context) (int, error) {
	total := 0
	for {
		n := 0
		err := k.update(ctx, func(tx *store.Tx) error {
			n = 0
			newest, err := k.cfg.Barrier.Newest(tx, k.cfg.Host)
			if err != nil {
				return err
			}
			rows, err := store.All(tx, staleKeys, []any{k.cfg.Host, newest}, scanKey)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if err := k.rewrap(tx, r); err != nil {
					return err
				}
			}
			if n = len(rows); n > 0 {
				return nil
			}
			for _, org := range []string{k.cfg.Host, ""} {
				if err := k.log.Rewrap(tx, org); err != nil {
					return err
				}
				if err := k.cfg.Barrier.DropKEKs(tx, org); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}

func (k *Keyring) rewrap(tx *store.Tx, r keyRow) error {
	box, _, err := k.cfg.Barrier.Rewrap(tx, k.keyPlace(r.id), r.box)
	if err != nil {
		return fmt.Errorf("keyring: key %s: %w", r.id, err)
	}
	n, err := tx.Exec(rewrapKey, box.KEK, box.Bytes, r.id, r.box.KEK)
	if err == nil && n != 1 {
		err = fmt.Errorf("keyring: key %s: %d rows changed", r.id, n)
	}
	return err
}

// RotateRoot makes a new root key: seal.Barrier.RotateRoot, with a row in the audit.
func (k *Keyring) RotateRoot(ctx context.Context, officer string) (int, error) {
	if err := k.update(ctx, func(tx *store.Tx) error {
		_, err := k.log.Append(tx, k.official(officer, "root.rotate", "", ""))
		return err
	}); err != nil {
		return 0, err
	}
	return k.cfg.Barrier.RotateRoot(ctx, k.cfg.Store)
}

// Reshare makes what opens the root key another one: seal.Barrier.Reshare, with a row in the audit.
func (k *Keyring) Reshare(ctx context.Context, officer string, keeper seal.Keeper) error {
	if err := k.update(ctx, func(tx *store.Tx) error {
		_, err := k.log.Append(tx, k.official(officer, "root.reshare", keeper.ID(), ""))
		return err
	}); err != nil {
		return err
	}
	return k.cfg.Barrier.Reshare(ctx, k.cfg.Store, keeper)
}

// Resume finishes what was broken off: for after each unsealing.
func (k *Keyring) Resume(ctx context.Context) error {
	if _, err := k.cfg.Barrier.ResumeRoot(ctx, k.cfg.Store); err != nil {
		return err
	}
	var orgs []string
	if err := k.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		orgs, err = k.cfg.Barrier.Changing(tx)
		return err
	}); err != nil {
		return err
	}
	if slices.Contains(orgs, k.cfg.Host) || slices.Contains(orgs, "") {
		_, err := k.resumeKEK(ctx)
		return err
	}
	return nil
}
