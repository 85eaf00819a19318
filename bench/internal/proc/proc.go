// Package proc reads what a process has cost, from Linux's /proc. It owns the parsing of those files; what the figures mean for a
// bench is the bench's.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on (proc(5), time(7)).
const tick = 10 * time.Millisecond

// Usage is what a process has used since its start, and holds now.
type Usage struct {
	User, System time.Duration
	RSS          int64 // bytes
}

// CPU is user and system time together.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// Of reads a process's usage; pid 0 is this process.
func Of(pid int) (Usage, error) {
	dir := "/proc/self"
	if pid != 0 {
		dir = "/proc/" + strconv.Itoa(pid)
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Usage{}, fmt.Errorf("bench: %w", err)
	}
	u, err := parseStat(stat)
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return Usage{}, fmt.Errorf("bench: %w", err)
	}
	u.RSS, err = parseRSS(status)
	return u, err
}

var errFormat = errors.New("bench: a file of /proc that this version cannot read")

// parseStat is proc_pid_stat(5): the name in parentheses may hold anything, and utime and stime are fields 14 and 15.
func parseStat(text []byte) (Usage, error) {
	_, rest, ok := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(" "))
	f := strings.Fields(string(rest))
	if !ok || len(f) < 13 {
		return Usage{}, errFormat
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return Usage{}, errFormat
	}
	return Usage{User: time.Duration(user) * tick, System: time.Duration(system) * tick}, nil
}

// parseRSS finds VmRSS in proc_pid_status(5).
func parseRSS(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			f := strings.Fields(string(value))
			if len(f) != 2 || f[1] != "kB" {
				return 0, errFormat
			}
			kb, err := strconv.ParseInt(f[0], 10, 64)
			if err != nil {
				return 0, errFormat
			}
			return kb << 10, nil
		}
	}
	return 0, errFormat
}

// Busy is the time that the machine's cores have worked since it was started, for whomever.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	return parseBusy(text)
}

// parseBusy is the first line of proc_stat(5): all times but those of idling and of waiting for a disk, fields 4 and 5. Guests' times
// are in the others.
func parseBusy(text []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 9 || f[0] != "cpu" {
		return 0, errFormat
	}
	var sum int64
	for i, field := range f[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, errFormat
		}
		if i != 3 && i != 4 {
			sum += n
		}
	}
	return time.Duration(sum) * tick, nil
}

// Machine describes the machine that figures were measured on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Here returns the machine. What cannot be read stays empty.
func Here() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// Ran is the CPU time of a process's threads, to the nanosecond; what ended threads had is not in it. Where the kernel does not count
// so, it is that of Of.
func Ran(pid int) (time.Duration, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	if _, err := os.Stat(dir + "/schedstat"); errors.Is(err, os.ErrNotExist) {
		u, err := Of(pid)
		return u.CPU(), err
	}
	list, err := os.ReadDir(dir + "/task")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	var sum time.Duration
	for _, t := range list {
		text, err := os.ReadFile(dir + "/task/" + t.Name() + "/schedstat")
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		ns, err := parseRan(text)
		if err != nil {
			return 0, err
		}
		sum += ns
	}
	return sum, nil
}

// parseRan is /proc/PID/schedstat: the time that the thread ran comes first.
func parseRan(text []byte) (time.Duration, error) {
	first, _, _ := bytes.Cut(text, []byte(" "))
	ns, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return 0, errFormat
	}
	return time.Duration(ns), nil
}
