// Command page writes a report that something else than Go has measured: a report.Page as JSON on standard input becomes HTML on
// standard output. The browser tests use it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/sotto-edge/sotto/bench/internal/report"
)

func main() {
	if err := convert(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func convert(in io.Reader, out io.Writer) error {
	var p report.Page
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return report.Write(out, p)
}
