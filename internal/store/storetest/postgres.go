package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a PostgreSQL of a test's own: in a folder of its own, reached over a socket there, gone with the test, also when that
// is killed.
type Server struct {
	Dir string // data, and the socket
	PID int

	cmd    *exec.Cmd
	gone   chan struct{}
	output *bytes.Buffer // after gone is closed
}

// programs finds those of the newest PostgreSQL; they are not in the path on Debian.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		path, err := exec.LookPath("postgres")
		return filepath.Dir(path), err
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // what is no number comes last
	return n
}

// credential is the user that PostgreSQL runs as, which must not be root.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// Command returns a program of PostgreSQL, to be run as the user that it wants.
func Command(program string, args ...string) (*exec.Cmd, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	who, err := credential()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + bin + ":" + os.Getenv("PATH"), "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	return cmd, nil
}

// Run runs a program of PostgreSQL to its end.
func Run(program string, args ...string) error {
	cmd, err := Command(program, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// Folder makes a folder that PostgreSQL may write to. The caller removes it.
func Folder() (string, error) {
	dir, err := os.MkdirTemp("", "sotto-pg-") // short: the path of a socket has 107 bytes
	if err != nil {
		return "", err
	}
	who, err := credential()
	if err == nil && who != nil {
		err = os.Chown(dir, int(who.Uid), int(who.Gid))
	}
	return dir, err
}

// StartServer makes a database cluster and starts a server on it, with more settings as in postgresql.conf.
func StartServer(settings ...string) (*Server, error) {
	dir, err := Folder()
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir}
	// C collation and UTF-8, whatever the machine speaks.
	if err := Run("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.Start(settings...); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// Standby makes a copy of the server that follows it under a name, and starts it.
func (s *Server) Standby(name string, settings ...string) (*Server, error) {
	dir, err := Folder()
	if err != nil {
		return nil, err
	}
	o := &Server{Dir: dir}
	if err := Run("pg_basebackup", "-h", s.Dir, "-U", "postgres", "-D", o.data(), "-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := os.WriteFile(filepath.Join(o.data(), "standby.signal"), nil, 0o644); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	follow := fmt.Sprintf("primary_conninfo=host=%s user=postgres application_name=%s", s.Dir, name)
	if err := o.Start(append(settings, follow)...); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return o, nil
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// Start starts the server, again after Kill or Stop, and waits until it answers.
func (s *Server) Start(settings ...string) error {
	args := []string{"-D", s.data(), "-c", "unix_socket_directories=" + s.Dir, "-c", "listen_addresses=", "-c", "max_connections=60", "-c", "shared_buffers=16MB"}
	for _, v := range settings {
		args = append(args, "-c", v)
	}
	cmd, err := Command("postgres", args...)
	if err != nil {
		return err
	}
	s.cmd, s.gone, s.output = cmd, make(chan struct{}), &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = s.output, s.output
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT // the server's word for stopping at once
	started := make(chan error)
	gone := s.gone
	go func() { // ends with the server
		runtime.LockOSThread() // that signal comes when the thread ends which started the server
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is what the test wanted
		}
		close(gone)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.PID = cmd.Process.Pid
	for range 300 {
		if Run("pg_isready", "-q", "-h", s.Dir, "-t", "5") == nil {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("storetest: PostgreSQL ended: %s", s.output)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.Join(errors.New("storetest: PostgreSQL does not answer"), s.Close())
}

// Kill ends the server without a chance to write anything. Its backends notice that the postmaster is gone.
func (s *Server) Kill() error {
	err := syscall.Kill(-s.PID, syscall.SIGKILL) // its group, which is its own
	<-s.gone
	return err
}

// Promote makes a standby the primary.
func (s *Server) Promote() error {
	return Run("pg_ctl", "promote", "-D", s.data(), "-w", "-t", "30")
}

// Close stops the server and removes its folder.
func (s *Server) Close() error {
	select {
	case <-s.gone:
	default:
		_ = s.cmd.Process.Signal(syscall.SIGINT) // fast shutdown; the wait below says whether it came
		select {
		case <-s.gone:
		case <-time.After(20 * time.Second):
			_ = s.Kill()
		}
	}
	return os.RemoveAll(s.Dir)
}

// DSN is the address of one of the server's databases, of several servers' if more are named.
func (s *Server) DSN(database string, more ...*Server) string {
	hosts, ports := s.Dir, "5432"
	for _, o := range more {
		hosts, ports = hosts+","+o.Dir, ports+",5432"
	}
	return fmt.Sprintf("host=%s port=%s user=postgres dbname=%s", hosts, ports, database)
}

// Query runs a statement through psql and returns what it prints.
func (s *Server) Query(ctx context.Context, database, statement string) (string, error) {
	cmd, err := Command("psql", "-h", s.Dir, "-U", "postgres", "-d", database, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement)
	if err != nil {
		return "", err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, errs.String())
	}
	return strings.TrimSpace(string(out)), ctx.Err()
}

// Need ends a test that cannot have PostgreSQL: skipped where only Go is promised (-short), failed elsewhere.
func Need(t testing.TB) {
	t.Helper()
	if _, err := programs(); err != nil {
		if testing.Short() {
			t.Skip("no PostgreSQL here")
		}
		t.Fatal("no PostgreSQL here: `make deps` brings it")
	}
}
