// Command sotto is the appliance: one binary that serves meetings, and the
// tools around it. It is the only place that plugs the parts together; they
// do not know each other.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/alecthomas/kong"

	"github.com/sotto-edge/sotto/bench"
	"github.com/sotto-edge/sotto/control/config"
)

func main() {
	os.Exit(execute(os.Args[1:], environment{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, uid: os.Getuid()}))
}

// environment is what commands see of the outside.
type environment struct {
	in       io.Reader // nil: nothing comes in
	out, err io.Writer
	getenv   func(string) string
	uid      int
}

// commands is the command line.
type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the appliance. On a laptop no flag is needed."`
	Bench   bench.Commands `cmd:"" help:"Measure: each bench starts the appliance as a child, loads it, and reports."`
	KMS     kmsCommand     `cmd:"" name:"kms" help:"The key service, which stands alone: on the same machine as the appliance, or the customer's."`
	Backup  backupCommand  `cmd:"" help:"Write everything that cannot be made again into one encrypted file, also while the appliance runs."`
	Restore restoreCommand `cmd:"" help:"Put a backup back, or prove that it could be (-verify)."`
	Doctor  doctorCommand  `cmd:"" help:"Look at this machine: ports, buffers, clock, certificate, addresses; each line ok, warn or fail, with what to do."`
	Ctl     ctlCommand     `cmd:"" help:"Look after the meetings of a running appliance, over its admin API."`
	Config  configCommand  `cmd:"" help:"Print the annotated configuration with its defaults, or check a file."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// failed is an error that has been reported already.
type failed struct{ code int }

func (failed) Error() string { return "failed" }

// execute runs one command line and returns the exit code: 0 done, 1 failed,
// 2 not understood.
func execute(args []string, env environment) (code int) {
	type exit struct{ code int }
	defer func() { // --help ends the program from within the parser
		if r := recover(); r != nil {
			e, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = e.code
		}
	}()
	var line commands
	parser, err := kong.New(&line,
		kong.Name("sotto"),
		kong.Description("An edge media appliance that cannot listen."),
		kong.Writers(env.out, env.err),
		kong.Exit(func(code int) { panic(exit{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Bind(env, &line.Ctl, bench.Terminal{Out: env.out, Err: env.err}),
	)
	if err != nil {
		panic(err) // the structs above are wrong
	}
	command, err := parser.Parse(longFlags(args))
	if err != nil {
		fmt.Fprintf(env.err, "sotto: %v\n", err)
		var parse *kong.ParseError
		if errors.As(err, &parse) {
			fmt.Fprintln(env.err, "`sotto --help` and `sotto COMMAND --help` say what there is")
		}
		return 2
	}
	err = command.Run()
	var reported failed
	switch {
	case err == nil:
		return 0
	case errors.As(err, &reported):
		return reported.code
	}
	fmt.Fprintf(env.err, "sotto: %v\n", err)
	return 1
}

var oneDash = regexp.MustCompile(`^-[a-z][a-z0-9-]+(=.*)?$`)

// longFlags lets flags be written with one dash, as in sotto serve -data DIR.
// There are no bundles of one-letter flags that it could be mistaken for.
func longFlags(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if a == "--" {
			copy(out[i:], args[i:])
			break
		}
		if oneDash.MatchString(a) {
			a = "-" + a
		}
		out[i] = a
	}
	return out
}

// location says which configuration and which data folder a command is about.
type location struct {
	Config string `help:"Configuration file; none is needed." placeholder:"FILE"`
	Data   string `help:"Data folder; goes before the one of the file." placeholder:"DIR"`
}

// load reads the configuration and finds the data folder.
func (l location) load(env environment) (config.Config, string, error) {
	cfg, err := config.LoadFile(l.Config)
	if err != nil {
		return cfg, "", err
	}
	if l.Data != "" {
		cfg.Server.DataDir = l.Data
	}
	dir, err := config.ResolveDataDir(cfg.Server.DataDir, env.getenv, env.uid)
	return cfg, dir, err
}
