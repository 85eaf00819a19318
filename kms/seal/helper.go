package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// A hardware module is spoken to by a program of its own: its library is C code of somebody else, and has no business in a process
// that keeps keys of others in memory. The program reads requests from its input and answers on its output, one at a time:
// a byte that says what, a place and data, each behind its length (4 bytes, big-endian); then a byte that says how it went, and data.
const (
	askID     = 'i'
	askWrap   = 'w'
	askUnwrap = 'u'

	wentWell    = 0
	wentWrong   = 1
	wentDamaged = 2

	maxField = 4096
)

// Module is a key that cannot leave where it is.
type Module interface {
	// ID names it.
	ID() string
	// Wrap returns a box with the key, bound to a place.
	Wrap(key, place []byte) ([]byte, error)
	// Unwrap returns the key of a box; ErrDamaged when it does not open.
	Unwrap(box, place []byte) ([]byte, error)
}

// ServeModule answers requests until the input ends.
func ServeModule(in io.Reader, out io.Writer, m Module) error {
	for {
		var what [1]byte
		if _, err := io.ReadFull(in, what[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("seal: helper: %w", err)
		}
		place, err := readField(in)
		if err != nil {
			return err
		}
		data, err := readField(in)
		if err != nil {
			return err
		}
		var answer []byte
		switch what[0] {
		case askID:
			answer = []byte(m.ID())
		case askWrap:
			answer, err = m.Wrap(data, place)
		case askUnwrap:
			answer, err = m.Unwrap(data, place)
		default:
			err = errors.New("no such request")
		}
		clear(data)
		status := byte(wentWell)
		switch {
		case errors.Is(err, ErrDamaged):
			status, answer = wentDamaged, nil
		case err != nil:
			status, answer = wentWrong, []byte(err.Error())
		}
		text := appendField([]byte{status}, answer[:min(len(answer), maxField)])
		clear(answer)
		_, err = out.Write(text)
		clear(text)
		if err != nil {
			return fmt.Errorf("seal: helper: %w", err)
		}
	}
}

func appendField(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

func readField(in io.Reader) ([]byte, error) {
	n, err := readLength(in)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, fmt.Errorf("seal: helper: %w", err)
	}
	return b, nil
}

func readLength(in io.Reader) (int, error) {
	var b [4]byte
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return 0, fmt.Errorf("seal: helper: %w", err)
	}
	n := binary.BigEndian.Uint32(b[:])
	if n > maxField {
		return 0, fmt.Errorf("seal: helper: a field of %d bytes", n)
	}
	return int(n), nil
}

// helper is a Keeper by a program that speaks to a module.
type helper struct {
	id string

	mu  sync.Mutex
	cmd *exec.Cmd // nil: closed
	in  io.WriteCloser
	out io.Reader // unbuffered: what is read is in nobody's memory but the key's
}

// StartHelper starts the program, cmd/sotto-hsm or another that speaks like it, and returns the Keeper. The program ends with the keeper,
// or with this process.
func StartHelper(program string, args ...string) (Keeper, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("seal: helper: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("seal: helper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("seal: helper: %w", err)
	}
	h := &helper{cmd: cmd, in: in, out: out}
	id, err := h.ask(askID, nil, nil, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%s says why)", err, program), h.Close())
	}
	h.id = "module " + string(id)
	return h, nil
}

func (h *helper) ID() string { return h.id }

func (h *helper) Wrap(key, place []byte) ([]byte, error) { return h.ask(askWrap, place, key, nil) }

func (h *helper) Unwrap(into, box, place []byte) error {
	if len(into) != keyLen {
		return ErrDamaged
	}
	_, err := h.ask(askUnwrap, place, box, into)
	if err != nil {
		clear(into)
	}
	return err
}

// ask makes one request. The answer is read into the given memory if there is some.
func (h *helper) ask(what byte, place, data, into []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return nil, ErrSealed
	}
	text := appendField(appendField([]byte{what}, place), nil)
	text = binary.BigEndian.AppendUint32(text[:len(text)-4], uint32(len(data)))
	for _, part := range [][]byte{text, data} { // the key from where it is
		if _, err := h.in.Write(part); err != nil {
			return nil, fmt.Errorf("seal: helper: %w", err)
		}
	}
	var status [1]byte
	if _, err := io.ReadFull(h.out, status[:]); err != nil {
		return nil, fmt.Errorf("seal: helper: %w", err)
	}
	if status[0] == wentWell && into != nil {
		n, err := readLength(h.out)
		if err != nil {
			return nil, err
		}
		if n != len(into) {
			return nil, errors.Join(ErrDamaged, h.stop()) // the stream is out of step
		}
		if _, err := io.ReadFull(h.out, into); err != nil {
			return nil, fmt.Errorf("seal: helper: %w", err)
		}
		return nil, nil
	}
	answer, err := readField(h.out)
	switch {
	case err != nil:
		return nil, err
	case status[0] == wentDamaged:
		return nil, ErrDamaged
	case status[0] != wentWell:
		return nil, fmt.Errorf("seal: helper: %s", answer)
	}
	return answer, nil
}

func (h *helper) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stop()
}

// stop ends the program by ending its input. How it ends is of no interest: it has been told to.
func (h *helper) stop() error {
	if h.cmd == nil {
		return nil
	}
	cmd := h.cmd
	h.cmd = nil
	err := h.in.Close()
	_ = cmd.Wait()
	return err
}
