// Command tsgen writes the web client's message types, web/src/wire.ts, from the Go types of package wire. Run it by
// "go generate ./signaling/wire"; a test of package wire fails when the file is not what it would write.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sotto-edge/sotto/signaling/wire/tsgen/ts"
)

func main() {
	out := flag.String("o", "", "file to write")
	flag.Parse()
	if err := run(".", *out); err != nil {
		fmt.Fprintln(os.Stderr, "tsgen:", err)
		os.Exit(1)
	}
}

func run(source, out string) error {
	text, err := ts.Generate(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}
