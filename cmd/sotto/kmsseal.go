package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/internal/run"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
)

// sealedBy says what opens the root key, where it is not the file.
type sealedBy struct {
	Shares     bool   `help:"Open by shares, which are read from the input, one a line, until there are enough."`
	SealModule string `help:"Open by a hardware module: the command line of sotto-hsm, its words apart by blanks." placeholder:"COMMAND"`
}

// set says whether it is not the file.
func (b sealedBy) set() bool { return b.Shares || b.SealModule != "" }

// keeper returns what opens the root key.
func (b sealedBy) keeper(env environment, file, data string) (seal.Keeper, error) {
	switch {
	case b.Shares && b.SealModule != "":
		return nil, errors.New("kms: by shares or by a module, not both")
	case b.Shares:
		return readShares(env)
	case b.SealModule != "":
		return startModule(b.SealModule)
	}
	return seal.OpenFile(file, data)
}

func startModule(command string) (seal.Keeper, error) {
	words := strings.Fields(command)
	if len(words) == 0 {
		return nil, errors.New("kms: no command for the module")
	}
	return seal.StartHelper(words[0], words[1:]...)
}

// readShares reads shares until there are enough. One that is none is told, and may be typed again.
func readShares(env environment) (seal.Keeper, error) {
	if env.in == nil {
		return nil, seal.ErrFewShares
	}
	var g seal.Gathering
	defer g.Wipe()
	lines := bufio.NewScanner(env.in)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		share, err := seal.ParseShare(lines.Text())
		if err != nil {
			fmt.Fprintln(env.err, err)
			continue
		}
		have, need, err := g.Add(share)
		if err != nil {
			fmt.Fprintln(env.err, err)
			continue
		}
		fmt.Fprintf(env.err, "share %d: %d of %d\n", share.Number(), have, need)
		if have == need {
			return g.Keeper()
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return g.Keeper() // says how many are missing
}

// newSeal says what is to open the root key from now on.
type newSeal struct {
	NewShares  string `xor:"new" required:"" help:"Shares, such as 3/5: five are printed, of which three open." placeholder:"NEED/ALL"`
	NewSealKey string `xor:"new" required:"" help:"A file that is made, outside the data folder." placeholder:"FILE"`
	NewModule  string `xor:"new" required:"" help:"A hardware module: the command line of sotto-hsm, its words apart by blanks." placeholder:"COMMAND"`
}

func (n newSeal) make(data string) (seal.Keeper, []seal.Share, error) {
	switch {
	case n.NewSealKey != "":
		k, err := seal.NewFile(n.NewSealKey, data)
		return k, nil, err
	case n.NewModule != "":
		k, err := startModule(n.NewModule)
		return k, nil, err
	}
	var need, all int
	if c, err := fmt.Sscanf(n.NewShares, "%d/%d", &need, &all); c != 2 || err != nil {
		return nil, nil, fmt.Errorf("kms: %q is not like 3/5", n.NewShares)
	}
	return seal.NewShares(need, all)
}

// printShares hands the shares out, once.
func printShares(w io.Writer, shares []seal.Share) {
	if len(shares) == 0 {
		return
	}
	fmt.Fprintf(w, "One for each holder; they are shown this once and kept nowhere. Without enough of them no key can be read.\n\n")
	for _, s := range shares {
		fmt.Fprintf(w, "  %d  %s\n", s.Number(), s.Text())
	}
	fmt.Fprintln(w)
}

// kmsPlace says which KMS.
type kmsPlace struct {
	Data     string `required:"" help:"Data folder of the KMS." placeholder:"DIR"`
	Database string `help:"SQLite file, or address of a PostgreSQL [kms.db, in the data folder]." placeholder:"WHERE"`
	Domain   string `default:"localhost" help:"Mail domain whose keys it holds." placeholder:"DOMAIN"`
}

func (p kmsPlace) open(ctx context.Context) (*store.Store, error) {
	database := p.Database
	if database == "" {
		database = filepath.Join(p.Data, "kms.db")
	}
	return store.Open(ctx, store.Config{Database: database, Domains: keyring.Domains()})
}

// kmsInit makes the first root key. `kms serve` does so with a file by itself.
type kmsInit struct {
	kmsPlace
	newSeal
}

// Run makes the key and prints the shares.
func (c kmsInit) Run(env environment) (err error) {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	lock, err := lockData(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	k, shares, err := c.make(c.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if err := seal.New(time.Now).Init(ctx, s, k); err != nil {
		return err
	}
	printShares(env.out, shares)
	return nil
}

// kmsReshare makes what opens the root key another one.
type kmsReshare struct {
	kmsPlace
	SealKey string `help:"File that opens the root key now." placeholder:"FILE"`
	sealedBy
	newSeal
}

// Run re-shares, with a row in the audit, and prints the new shares.
func (c kmsReshare) Run(env environment) (err error) {
	ctx, stop := run.UntilSignal(context.Background())
	defer stop()
	lock, err := lockData(c.Data)
	if err != nil {
		return fmt.Errorf("%w (stop the KMS first: it knows what has opened it)", err)
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	who, err := user.Current()
	if err != nil {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	now, err := c.keeper(env, c.SealKey, c.Data)
	if err != nil {
		return err
	}
	barrier := seal.New(time.Now)
	if err := barrier.Unseal(ctx, s, now); err != nil {
		return errors.Join(err, now.Close())
	}
	defer func() { err = errors.Join(err, barrier.Seal()) }()
	ring, err := keyring.Open(keyring.Config{Host: c.Domain, Store: s, Barrier: barrier})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ring.Close()) }()
	next, shares, err := c.make(c.Data)
	if err != nil {
		return err
	}
	if err := ring.Reshare(ctx, who.Username, next); err != nil {
		return errors.Join(err, next.Close())
	}
	fmt.Fprintf(env.out, "The root key is kept by %s from now on; %s opens nothing more.\n", next.ID(), now.ID())
	printShares(env.out, shares)
	return nil
}
