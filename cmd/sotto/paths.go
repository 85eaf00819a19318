package main

import (
	"cmp"
	"path/filepath"

	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/internal/store"
	"github.com/sotto-edge/sotto/signaling"
)

// The data folder. Everything in it can be removed while nothing runs; what
// is lost with each file is said in docs/operating.md.

func tlsDir(data string) string { return filepath.Join(data, "tls") }

func adminDir(data string) string { return filepath.Join(data, "admin") }

func adminTokenFile(data string) string { return filepath.Join(data, "admin", "token") }

func ownerTokenFile(data string) string { return filepath.Join(data, "owner-token") }

// recordingsDir is where recordings are: where the configuration says, a
// relative name counting from the data folder, or inside that.
func recordingsDir(data, configured string) string {
	if filepath.IsAbs(configured) {
		return configured
	}
	return filepath.Join(data, cmp.Or(configured, "recordings"))
}

func seedFile(data string) string { return filepath.Join(data, "seed") }

// database is where the core's database is, as package store names it: PostgreSQL, or a file of the data folder.
func database(data string, cfg config.Config) string {
	return cmp.Or(cfg.Store.Database, filepath.Join(data, "core.db"))
}

// domains are whose tables are in it.
func domains() []*store.Domain { return []*store.Domain{signaling.Domain} }
