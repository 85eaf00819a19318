package audit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/store"
)

var (
	positions = Domain.Query(`SELECT h.org, h.seq, coalesce(p.seq, 0) FROM audit_head h LEFT JOIN audit_sink p ON p.org = h.org ORDER BY h.org`)
	putSent   = Domain.Query(`INSERT INTO audit_sink (org, seq) VALUES (?, ?) ON CONFLICT (org) DO UPDATE SET seq = CASE WHEN excluded.seq > audit_sink.seq THEN excluded.seq ELSE audit_sink.seq END`)
)

// SinkConfig is where rows are sent.
type SinkConfig struct {
	Store *store.Store
	// Address of the receiver, host and port; RFC 5425 §4.1 gives it 6514.
	Address string
	// TLS is how the receiver is known, and what it knows the KMS by. At least TLS 1.2 is spoken, whatever stands here.
	TLS *tls.Config
	// Host is the name that messages come from.
	Host string
	// Enterprise is the number that names the structured data. [32473, which RFC 5612 §2 gives to examples]
	Enterprise int
	// Patience is how long the receiver may be away until Ready says so. [5 minutes]
	Patience time.Duration
	// Every is how often the receiver and the database are looked at without a Wake. [2 s]
	Every time.Duration
	// Now is the clock that Patience is measured by. [time.Now]
	Now func() time.Time
	// Log is told when the receiver goes and comes back. [discards]
	Log *slog.Logger
}

// Sink sends rows to a receiver of syslog over TLS, RFC 5425, from where it has come to. What it has not sent is in the database: it
// holds nothing in memory but some rows, no call waits for it, and nothing is lost while the receiver is away. Syslog acknowledges
// nothing, so after each connection some rows are sent again; a receiver knows them by org and seq, and sees a gap by them.
type Sink struct {
	cfg   SinkConfig
	group *run.Group
	wake  chan struct{}

	mu    sync.Mutex
	since time.Time // when it began to fail; zero: it does not
	err   error
	sent  int64
}

// again is how many rows of each chain are sent again over a new connection.
const again = 100

// StartSink starts a sink, to be closed by Close.
func StartSink(cfg SinkConfig) *Sink {
	if cfg.Enterprise == 0 {
		cfg.Enterprise = 32473
	}
	if cfg.Patience == 0 {
		cfg.Patience = 5 * time.Minute
	}
	if cfg.Every == 0 {
		cfg.Every = 2 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.TLS = cfg.TLS.Clone()
	if cfg.TLS == nil {
		cfg.TLS = &tls.Config{}
	}
	cfg.TLS.MinVersion = max(cfg.TLS.MinVersion, tls.VersionTLS12)
	s := &Sink{cfg: cfg, group: run.NewGroup(context.Background()), wake: make(chan struct{}, 1)}
	s.group.Go("audit sink", s.serve)
	return s
}

// Wake says that there are rows. It does not wait.
func (s *Sink) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Sent is how many rows were written since the start, those sent again included.
func (s *Sink) Sent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// Ready returns why rows have not reached the receiver for longer than Patience, nil when all is well.
func (s *Sink) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return nil
	}
	if d := s.cfg.Now().Sub(s.since); d >= s.cfg.Patience {
		return fmt.Errorf("audit: syslog at %s has had nothing for %v: %w", s.cfg.Address, d.Round(time.Second), s.err)
	}
	return nil
}

// Close stops sending. What is not sent is after the next start. It may be called twice.
func (s *Sink) Close() error { return s.group.Stop() }

func (s *Sink) serve(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.note(s.connection(ctx, tick))
		select {
		case <-tick.C: // before the next connection
		case <-ctx.Done():
		}
	}
	return nil
}

// note keeps since when it fails.
func (s *Sink) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && !s.since.IsZero():
		s.cfg.Log.Info("audit: syslog reached again", "address", s.cfg.Address, "after", s.cfg.Now().Sub(s.since))
		s.since = time.Time{}
	case err != nil && s.since.IsZero():
		s.cfg.Log.Warn("audit: syslog not reached; rows wait in the database", "address", s.cfg.Address, "err", err)
		s.since = s.cfg.Now()
	}
	s.err = err
}

// connection sends rows over one connection until it breaks.
func (s *Sink) connection(ctx context.Context, tick *time.Ticker) error {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: writeWait}, Config: s.cfg.TLS}
	conn, err := dialer.DialContext(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return err
	}
	gone := make(chan error, 1)
	watch := run.NewGroup(ctx)
	watch.Go("audit sink, reading", func(context.Context) error {
		_, err := conn.Read(make([]byte, 1)) // a receiver says nothing; that it has gone is read here
		if err == nil {
			err = errors.New("audit: the receiver speaks, which syslog does not")
		}
		gone <- err
		return nil
	})
	defer func() {
		_ = conn.Close() // what broke it is returned, and nothing else is of interest
		_ = watch.Wait()
	}()
	at := map[string]int64{}
	for {
		select {
		case err := <-gone:
			return err
		default:
		}
		if err := s.send(ctx, conn, at); err != nil {
			return err
		}
		s.note(nil)
		select {
		case <-s.wake:
		case <-tick.C:
		case err := <-gone:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// send writes what is new in every chain. at is how far this connection has come in each.
func (s *Sink) send(ctx context.Context, conn net.Conn, at map[string]int64) error {
	type chain struct {
		org        string
		head, sent int64
	}
	var all []chain
	if err := s.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		all, err = store.All(tx, positions, nil, func(r store.Row) (c chain, err error) {
			err = r.Scan(&c.org, &c.head, &c.sent)
			return c, err
		})
		return err
	}); err != nil {
		return err
	}
	for _, c := range all {
		if _, ok := at[c.org]; !ok {
			at[c.org] = max(0, c.sent-again)
		}
		for at[c.org] < c.head {
			n, err := s.sendSome(ctx, conn, c.org, at)
			if err != nil {
				return err
			}
			if n == 0 {
				break // the head says more than there is: for Verify to say
			}
		}
	}
	return nil
}

func (s *Sink) sendSome(ctx context.Context, conn net.Conn, org string, at map[string]int64) (int, error) {
	var rows []Row
	if err := s.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		rows, err = Rows(tx, org, at[org], 100)
		return err
	}); err != nil || len(rows) == 0 {
		return 0, err
	}
	var text, message []byte
	for _, r := range rows {
		message = AppendSyslog(message[:0], r, s.cfg.Host, s.cfg.Enterprise)
		text = appendFrame(text, message)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(text); err != nil {
		return 0, err
	}
	last := rows[len(rows)-1].Seq
	if err := s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(putSent, org, last)
		return err
	}); err != nil && !errors.Is(err, store.ErrUnknown) {
		return 0, err
	}
	at[org] = last
	s.mu.Lock()
	s.sent += int64(len(rows))
	s.mu.Unlock()
	return len(rows), nil
}
