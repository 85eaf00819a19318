package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/wire"
)

// journal writes to the audit who opened a session and who was refused. A session releases nothing by itself, and each release has its row in
// its own transaction; so nobody waits for these, and strangers who come faster than the database writes are counted instead.
type journal struct {
	database *store.Store
	audit    *audit.Log
	org      string
	log      *slog.Logger
	queue    chan audit.Entry
}

// Bounds of the journal.
const (
	journalled = 1024            // entries that wait
	lastWrites = 5 * time.Second // for what waits when the KMS stops
)

func newJournal(database *store.Store, log *audit.Log, org string, to *slog.Logger) *journal {
	return &journal{database: database, audit: log, org: org, log: to, queue: make(chan audit.Entry, journalled)}
}

// Opened implements kms.Journal.
func (j *journal) Opened(ctx context.Context, who wire.Caller) error {
	j.add(who, audit.Done, "")
	return kms.LogJournal{Log: j.log}.Opened(ctx, who)
}

// Refused implements kms.Journal.
func (j *journal) Refused(ctx context.Context, who wire.Caller, cause kms.Cause) {
	j.add(who, audit.Refused, string(cause))
	kms.LogJournal{Log: j.log}.Refused(ctx, who, cause)
}

func (j *journal) add(who wire.Caller, outcome audit.Outcome, reason string) {
	actor := who.User
	if actor != "" {
		actor = strings.TrimSuffix(actor, "@"+who.Domain) + "@" + who.Domain // as the keyring names them
	}
	e := audit.Entry{
		Org: j.org, Event: "session.open", Outcome: outcome, Reason: reason, Actor: actor, Client: who.Client, Service: who.Service,
		Via: who.Peer, Object: who.Session, Resource: who.Suite,
	}
	select {
	case j.queue <- e:
	default:
		j.log.Error("session not in the audit: too many at once", slog.String("session", who.Session))
	}
}

// keep is the journal's goroutine. Its context ends after everybody who adds entries; what waits then is still written.
func (j *journal) keep(ctx context.Context) error {
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWrites, cancel) })()
	for {
		select {
		case e := <-j.queue:
			j.write(writing, e)
		case <-ctx.Done():
			for len(j.queue) > 0 {
				j.write(writing, <-j.queue)
			}
			return nil
		}
	}
}

func (j *journal) write(ctx context.Context, e audit.Entry) {
	err := j.database.Update(ctx, func(tx *store.Tx) error {
		_, err := j.audit.Append(tx, e)
		return err
	})
	if err != nil {
		j.log.Error("session not in the audit", slog.String("session", e.Object), slog.Any("err", err))
	}
}
