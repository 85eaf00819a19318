package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/audit"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
)

// kmsAudit looks at the audit of a KMS (docs/kms-storage.md).
type kmsAudit struct {
	Verify kmsVerify `cmd:"" help:"Check that no row of the audit was changed, removed, moved or cut off, also while the KMS runs."`
}

// kmsVerify checks every chain. It changes nothing.
type kmsVerify struct {
	Data     string   `help:"Data folder of the KMS [kms, in that of the appliance]." placeholder:"DIR"`
	Database string   `help:"SQLite file, or address of a PostgreSQL [kms.db, in the data folder]." placeholder:"WHERE"`
	SealKey  string   `help:"File with the key that opens all others; without it the heads of chains are not checked [beside the data folder, if it is there]." placeholder:"FILE"`
	Anchor   []string `help:"Row that is known from elsewhere, as a head is printed; may be repeated." placeholder:"CHAIN/ROW/HASH"`
}

// Run prints a line for each chain and each problem, and fails if there is one.
func (c kmsVerify) Run(env environment) (err error) {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	anchors, err := parseAnchors(c.Anchor)
	if err != nil {
		return err
	}
	if c.Data == "" {
		_, dir, err := location{}.load(env)
		if err != nil {
			return err
		}
		c.Data = filepath.Join(dir, "kms")
	}
	s, err := store.Inspect(ctx, store.Config{Database: cmp.Or(c.Database, filepath.Join(c.Data, "kms.db")), Domains: keyring.Domains()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	barrier := seal.New(time.Now)
	defer func() { err = errors.Join(err, barrier.Seal()) }()
	file := cmp.Or(c.SealKey, strings.TrimRight(filepath.Clean(c.Data), "/")+"-seal.key")
	switch keeper, err := seal.OpenFile(file, c.Data); {
	case err == nil:
		if err := barrier.Unseal(ctx, s, keeper); err != nil {
			return errors.Join(err, keeper.Close())
		}
	case c.SealKey != "":
		return err
	default:
		fmt.Fprintf(env.out, "sealed: the heads of chains are not checked (%v)\n", err)
	}
	log := audit.New(barrier, time.Now)
	reports, err := log.VerifyAll(ctx, s)
	if err != nil {
		return err
	}
	problems := 0
	for _, r := range reports {
		if known := anchors[r.Org]; known != nil {
			delete(anchors, r.Org)
			if r, err = log.Verify(ctx, s, r.Org, known...); err != nil {
				return err
			}
		}
		problems += printReport(env, r)
	}
	for org := range anchors {
		problems++
		fmt.Fprintf(env.out, "%s: no such chain, and a row of it is known from elsewhere\n", chainName(org))
	}
	if problems > 0 {
		return failed{1}
	}
	return nil
}

// printReport returns how many problems there are.
func printReport(env environment, r audit.Report) int {
	state := "whole"
	if n := len(r.Problems); n > 0 {
		state = fmt.Sprintf("NOT whole, %d problems", n)
	}
	fmt.Fprintf(env.out, "%s: %d rows, %s; head %s/%d/%s\n", chainName(r.Org), r.Rows, state, r.Org, r.Head.Seq, hex.EncodeToString(r.Head.Hash[:]))
	for _, p := range r.Problems {
		fmt.Fprintf(env.out, "  %s\n", p)
	}
	return len(r.Problems)
}

func chainName(org string) string { return cmp.Or(org, "the KMS itself") }

// parseAnchors reads heads as they are printed.
func parseAnchors(texts []string) (map[string][]audit.Anchor, error) {
	out := map[string][]audit.Anchor{}
	for _, text := range texts {
		f := strings.Split(text, "/")
		if len(f) != 3 {
			return nil, fmt.Errorf("%q is no CHAIN/ROW/HASH", text)
		}
		seq, err := strconv.ParseInt(f[1], 10, 64)
		hash, err2 := hex.DecodeString(f[2])
		a := audit.Anchor{Seq: seq}
		if err != nil || err2 != nil || seq < 1 || len(hash) != len(a.Hash) {
			return nil, fmt.Errorf("%q is no CHAIN/ROW/HASH", text)
		}
		copy(a.Hash[:], hash)
		out[f[0]] = append(out[f[0]], a)
	}
	return out, nil
}
