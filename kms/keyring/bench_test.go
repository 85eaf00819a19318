package keyring_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sotto-edge/sotto/internal/store/storetest"
	"github.com/sotto-edge/sotto/kms/keyring"
	"github.com/sotto-edge/sotto/kms/seal"
	"github.com/sotto-edge/sotto/kms/wire"
)

// BenchmarkRelease is what a key costs, with its row on the disk: 64 callers at once.
func BenchmarkRelease(b *testing.B) {
	for _, e := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		b.Run(string(e), func(b *testing.B) {
			s := storetest.Open(b, e.Fresh(b), keyring.Domains()...)
			k, _, err := seal.NewShares(3, 5)
			if err != nil {
				b.Fatal(err)
			}
			barrier := seal.New(time.Now)
			if err := barrier.Init(b.Context(), s, k); err != nil {
				b.Fatal(err)
			}
			if err := barrier.Unseal(b.Context(), s, k); err != nil {
				b.Fatal(err)
			}
			r, err := keyring.Open(keyring.Config{Host: host, Store: s, Barrier: barrier, Spool: filepath.Join(b.TempDir(), "spool"), Hurry: time.Minute})
			if err != nil {
				b.Fatal(err)
			}
			space, err := r.CreateResource(b.Context(), user("alice"), wire.NewResource{})
			if err != nil {
				b.Fatal(err)
			}
			before := s.Stats().Commits
			b.SetParallelism(32)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key, err := r.Key(b.Context(), user("alice"), space.Current)
					if err != nil {
						b.Error(err)
						return
					}
					key.Wipe()
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/float64(s.Stats().Commits-before), "releases/commit")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "releases/s")
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
