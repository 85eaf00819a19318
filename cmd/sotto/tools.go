package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/doctor"
)

// version is that of the next release until a release sets it with -ldflags.
var version = "0.1.0-dev"

type versionCommand struct{}

// Run prints the version and what it was built from.
func (versionCommand) Run(env environment) error {
	fmt.Fprintf(env.out, "sotto %s %s %s/%s%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, revision())
	return nil
}

// revision returns the commit where the build knows it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+"
		}
	}
	return cmp.Or(commit, "") + dirty
}

type configCommand struct {
	Print configPrint `cmd:"" default:"1" help:"Print the annotated configuration with its defaults."`
	Check configCheck `cmd:"" help:"Say with line numbers what is wrong with a file."`
}

type configPrint struct{}

// Run prints the document.
func (configPrint) Run(env environment) error {
	fmt.Fprint(env.out, config.Document(config.Default()))
	return nil
}

type configCheck struct {
	File string `arg:"" help:"The file to check."`
}

// Run checks the file.
func (c configCheck) Run(env environment) error {
	_, err := config.LoadFile(c.File)
	var invalid *config.Invalid
	if errors.As(err, &invalid) {
		fmt.Fprintln(env.err, err)
		return failed{1}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(env.out, "%s is sound\n", c.File)
	return nil
}

type doctorCommand struct {
	location
	JSON bool `help:"Print the lines as a JSON array."`
}

// Run prints what was found; the command fails when the appliance cannot run.
func (c doctorCommand) Run(env environment) error {
	cfg, dir, err := c.load(env)
	if err != nil {
		return err
	}
	examined := doctor.Config{Config: cfg, DataDir: dir, Machine: doctor.Here{}, Engine: examineEngine(cfg)}
	if running, ok := readInstance(dir); ok {
		examined.RunningPID = running.PID
	}
	lines := doctor.Examine(examined)
	if c.JSON {
		if err := printJSON(env, lines); err != nil {
			return err
		}
	} else {
		fmt.Fprint(env.out, doctor.Print(lines))
	}
	if doctor.Worst(lines) == doctor.Fail {
		return failed{1}
	}
	return nil
}

func printJSON(env environment, v any) error {
	e := json.NewEncoder(env.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
