package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrate brings the tables of every domain up to date. None is touched when one of them is newer than this program.
func (s *Store) migrate(ctx context.Context) error {
	providers := make([]*goose.Provider, len(s.cfg.Domains))
	for i, d := range s.cfg.Domains {
		p, err := s.provider(d)
		if err != nil {
			return err
		}
		providers[i] = p
		has, knows, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("store: versions of %s: %w", d.name, err)
		}
		if has > knows {
			return fmt.Errorf("%w: its tables of %s are of version %d, this program knows %d: start the program that wrote it, or restore a backup from before the upgrade", ErrNewer, d.name, has, knows)
		}
	}
	for i, p := range providers {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("store: migrate %s: %w", s.cfg.Domains[i].name, err)
		}
	}
	return nil
}

func (s *Store) provider(d *Domain) (*goose.Provider, error) {
	db, dialect := s.migrationDB()
	options := []goose.ProviderOption{goose.WithTableName(d.versions()), goose.WithDisableGlobalRegistry(true)}
	if dialect == goose.DialectPostgres { // another node may start at the same time
		l, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, fmt.Errorf("store: migrate %s: %w", d.name, err)
		}
		options = append(options, goose.WithSessionLocker(l))
	}
	p, err := goose.NewProvider(dialect, db, d.migrations, options...)
	if err != nil {
		return nil, fmt.Errorf("store: migrations of %s: %w", d.name, err)
	}
	return p, nil
}

func (s *Store) migrationDB() (*sql.DB, goose.Dialect) {
	switch e := s.engine.(type) {
	case *sqliteEngine:
		return e.writer, goose.DialectSQLite3
	case *postgresEngine:
		return e.db, goose.DialectPostgres
	}
	panic("store: an engine without migrations")
}

// Check prepares every query of every domain, and says which of them this engine does not take.
func (s *Store) Check(ctx context.Context) error {
	db, dialect := s.migrationDB()
	var errs []error
	for _, d := range s.cfg.Domains {
		for _, q := range d.queries {
			text := q.text
			if dialect == goose.DialectPostgres {
				text = q.numbered
			}
			stmt, err := db.PrepareContext(ctx, text)
			if err != nil {
				errs = append(errs, fmt.Errorf("store: %s: %q: %w", d.name, q.text, err))
				continue
			}
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}
