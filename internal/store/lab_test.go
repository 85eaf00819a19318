package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/internal/store/storetest"
)

// The domain of these tests: accounts, and entries that refer to them.
var (
	ledger     = store.NewDomain("ledger", tree("testdata/ledger"))
	addAccount = ledger.Query(`INSERT INTO account (name, balance, note, secret, open, rate, since) VALUES (?, ?, ?, ?, ?, ?, ?)`)
	getAccount = ledger.Query(`SELECT balance, note, secret, open, rate, since FROM account WHERE name = ?`)
	setBalance = ledger.Query(`UPDATE account SET balance = ? WHERE name = ?`)
	putBalance = ledger.Query(`INSERT INTO account (name, balance) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET balance = account.balance + excluded.balance RETURNING balance`)
	getBalance = ledger.Query(`SELECT balance FROM account WHERE name = ?`)
	addEntry   = ledger.Query(`INSERT INTO entry (number, account, amount) VALUES (?, ?, ?)`)
	allEntries = ledger.Query(`SELECT number, amount FROM entry WHERE account = ? ORDER BY number`)
	countUp    = ledger.Query(`SELECT count(*), coalesce(sum(balance), 0) FROM account WHERE open AND name LIKE '?%' OR name = ?`)
)

func tree(dir string) fs.FS { return os.DirFS(dir) }

func TestMain(m *testing.M) {
	if os.Getenv("SOTTO_STORE_CHILD") != "" {
		os.Exit(child(os.Getenv("SOTTO_STORE_CHILD")))
	}
	storetest.Main(m)
}

func balance(t *testing.T, s *store.Store, name string) (n int64) {
	t.Helper()
	if err := s.View(t.Context(), func(tx *store.Tx) error { return tx.One(getBalance, []any{name}, &n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func add(tx *store.Tx, name string, amount int64) (n int64, err error) {
	err = tx.One(putBalance, []any{name, amount}, &n)
	return n, err
}

// child writes entries from where there are some until it is killed. It prints the number of each that was acknowledged, and before it is
// begun.
func child(database string) int {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Database: database, Domains: []*store.Domain{ledger}})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	var first int64
	if err := s.Update(ctx, func(tx *store.Tx) error {
		_, err := add(tx, "child", 0)
		if err != nil {
			return err
		}
		all, err := store.All(tx, allEntries, []any{"child"}, scanEntry)
		first = int64(len(all))
		return err
	}); err != nil {
		fmt.Println("error", err)
		return 1
	}
	for n := first; ; n++ {
		fmt.Println("begin", n)
		if _, _, err := s.Once(ctx, entryKey(n), func(tx *store.Tx) ([]byte, error) { return nil, writeEntry(tx, n) }); err != nil {
			fmt.Println("error", err)
			return 1
		}
		fmt.Println("done", n)
	}
}

func scanEntry(r store.Row) (e [2]int64, err error) {
	err = r.Scan(&e[0], &e[1])
	return e, err
}

func entryKey(n int64) store.Key {
	return store.Key{Scope: "child", ID: strconv.FormatInt(n, 10), Request: []byte("entry")}
}

// writeEntry writes to two tables: half of it must never be there.
func writeEntry(tx *store.Tx, n int64) error {
	if _, err := add(tx, "child", 1); err != nil {
		return err
	}
	_, err := tx.Exec(addEntry, n, "child", 1)
	return err
}

// killed runs the child until it has acknowledged some writes, kills it amid the next, and returns the last number that
// was begun and the last that was acknowledged.
func killed(t *testing.T, database string, writes int) (begun, acknowledged int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SOTTO_STORE_CHILD="+database)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun, acknowledged = -1, -1
	for lines, seen := bufio.NewScanner(out), 0; lines.Scan(); {
		word, text, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Errorf("the child says %q", lines.Text())
			break
		}
		if word == "begin" {
			begun = n
			if seen == writes { // and after these lines come in which it died
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
			continue
		}
		acknowledged = n
		seen++
	}
	_ = cmd.Wait() // it was killed
	return begun, acknowledged
}
