package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Table is a table as it is dumped: rows as values of the types int64, float64, string, bool, []byte and nil, which both engines
// give and take alike.
type Table struct {
	Name    string
	Columns []string
}

// Inspect opens a database that is there, and changes nothing about its schema: for backups, beside a process that serves.
func Inspect(ctx context.Context, cfg Config) (*Store, error) {
	if !Remote(cfg.Database) {
		if _, err := os.Stat(cfg.Database); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	return open(ctx, cfg)
}

// Versions returns the version of each domain's tables, 0 where it has none.
func (s *Store) Versions(ctx context.Context) (map[string]int64, error) {
	out := map[string]int64{}
	for _, d := range s.cfg.Domains {
		p, err := s.provider(d)
		if err != nil {
			return nil, err
		}
		has, knows, err := p.GetVersions(ctx)
		if err != nil {
			return nil, fmt.Errorf("store: versions of %s: %w", d.name, err)
		}
		if has > knows {
			return nil, fmt.Errorf("%w: its tables of %s are of version %d, this program knows %d", ErrNewer, d.name, has, knows)
		}
		out[d.name] = has
	}
	return out, nil
}

// Dump hands out every row of every table as of one moment, tables before those that refer to them. Writers are not held up.
func (s *Store) Dump(ctx context.Context, row func(t Table, values []any) error) error {
	return s.engine.view(ctx, func(tx *Tx) error { // not tried again: rows have been handed out
		names, err := s.tables(tx)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := dumpTable(tx, name, row); err != nil {
				return fmt.Errorf("store: dump %s: %w", name, err)
			}
		}
		return nil
	})
}

func dumpTable(tx *Tx, name string, row func(Table, []any) error) (err error) {
	q := `SELECT * FROM ` + quote(name)
	rows, err := tx.on.query(tx.ctx, Query{q, q}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	t := Table{Name: name}
	if t.Columns, err = rows.Columns(); err != nil {
		return err
	}
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, dest := make([]any, len(t.Columns)), make([]any, len(t.Columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		for i, v := range values {
			// SQLite knows what the column was declared as, and keeps a number.
			if n, ok := v.(int64); ok && types[i].DatabaseTypeName() == "BOOLEAN" {
				values[i] = n != 0
			}
			switch v.(type) {
			case nil, int64, float64, string, bool, []byte:
			default:
				return fmt.Errorf("column %s has a type that is not portable (%T): use BIGINT, DOUBLE PRECISION, TEXT, BOOLEAN or BYTEA", t.Columns[i], v)
			}
		}
		if err := row(t, values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// tables returns the tables of the database but those of the migrations.
func (s *Store) tables(tx *Tx) ([]string, error) {
	names, refers := Query{text: `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name`},
		Query{text: `SELECT m.name, f."table" FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`}
	if _, ok := s.engine.(*postgresEngine); ok {
		names.numbered = `SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY relname`
		refers.numbered = `SELECT a.relname, b.relname FROM pg_constraint c JOIN pg_class a ON a.oid = c.conrelid JOIN pg_class b ON b.oid = c.confrelid WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace`
	}
	all, err := All(tx, names, nil, func(r Row) (n string, err error) { return n, r.Scan(&n) })
	if err != nil {
		return nil, err
	}
	edges, err := All(tx, refers, nil, func(r Row) (e [2]string, err error) { return e, r.Scan(&e[0], &e[1]) })
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	for _, e := range edges {
		if e[0] != e[1] {
			needs[e[0]] = append(needs[e[0]], e[1])
		}
	}
	var out []string
	state := map[string]int{} // 1: on the way, 2: in out
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case 1:
			return fmt.Errorf("store: tables refer to each other in a circle: %s", name)
		case 2:
			return nil
		}
		state[name] = 1
		for _, n := range needs[name] {
			if err := visit(n); err != nil {
				return err
			}
		}
		state[name] = 2
		if !strings.HasPrefix(name, versionsPrefix) {
			out = append(out, name)
		}
		return nil
	}
	for _, name := range all {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Load fills an empty database with what Dump gave: tables of the versions, their rows in one transaction. It does not bring the
// tables up to date, which the next Open does. fill is called once and hands the rows to put.
func Load(ctx context.Context, cfg Config, versions map[string]int64, fill func(put func(Table, []any) error) error) (err error) {
	s, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.engine.view(ctx, func(tx *Tx) error {
		names, err := s.tables(tx)
		if err == nil && len(names) > 0 {
			err = fmt.Errorf("store: the database has tables already, such as %s: %w", names[0], fs.ErrExist)
		}
		return err
	}); err != nil {
		return err
	}
	for _, d := range s.cfg.Domains {
		p, err := s.provider(d)
		if err != nil {
			return err
		}
		_, knows, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("store: versions of %s: %w", d.name, err)
		}
		if versions[d.name] > knows {
			return fmt.Errorf("%w: its tables of %s are of version %d, this program knows %d", ErrNewer, d.name, versions[d.name], knows)
		}
		if versions[d.name] > 0 {
			if _, err := p.UpTo(ctx, versions[d.name]); err != nil {
				return fmt.Errorf("store: migrate %s: %w", d.name, err)
			}
		}
	}
	return s.engine.update(ctx, func(tx *Tx) error {
		names, err := s.tables(tx)
		if err != nil {
			return err
		}
		for i := len(names) - 1; i >= 0; i-- { // what migrations have put there is in the dump as well
			q := `DELETE FROM ` + quote(names[i])
			if _, err := tx.Exec(Query{q, q}); err != nil {
				return err
			}
		}
		queries := map[string]Query{}
		return fill(func(t Table, values []any) error {
			q, ok := queries[t.Name]
			if !ok {
				q = insertion(t)
				queries[t.Name] = q
			}
			if _, err := tx.Exec(q, values...); err != nil {
				return fmt.Errorf("store: load %s: %w", t.Name, err)
			}
			return nil
		})
	})
}

func insertion(t Table) Query {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = quote(c)
	}
	text := `INSERT INTO ` + quote(t.Name) + ` (` + strings.Join(columns, ", ") + `) VALUES (` + strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ") + `)`
	return Query{text, number(text)}
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
