// Package bpf is what Sotto runs inside the kernel, and the only place that loads it.
//
// It owns the programs in c, their committed objects, and the maps and links that a process has of them. It promises that all of it
// goes with the process that loaded it, however that ends: nothing is pinned, so packets then take the way they took before. It
// decides nothing: which flows there are, and which way they leave, is the business of turn/relay.
//
// The objects are for all little-endian machines, amd64 and arm64 among them. `make generate` builds them with clang-19.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -cc clang-19 -strip llvm-strip-19 -target bpfel -type verdict relay c/relay.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -cc clang-19 -strip llvm-strip-19 -target bpfel -type guard_verdict guard c/guard.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
