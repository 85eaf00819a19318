package main

import "path/filepath"

// The data folder. Everything in it can be removed while nothing runs; what
// is lost with each file is said in docs/operating.md.

func tlsDir(data string) string { return filepath.Join(data, "tls") }

func adminDir(data string) string { return filepath.Join(data, "admin") }

func adminTokenFile(data string) string { return filepath.Join(data, "admin", "token") }

func ownerTokenFile(data string) string { return filepath.Join(data, "owner-token") }

func seedFile(data string) string { return filepath.Join(data, "seed") }
