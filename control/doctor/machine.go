package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sotto-edge/sotto/control/config"
	"github.com/sotto-edge/sotto/control/tlscert"
	"github.com/sotto-edge/sotto/internal/udp"
)

// Files is what the checks ask about files and limits.
type Files interface {
	Mode(name string) (fs.FileMode, error)
	// Creatable says whether files can be made in the folder, or it itself.
	Creatable(dir string) error
	// Certificate returns the leaf that the appliance presents.
	Certificate(files config.TLS, dataDir string) (*x509.Certificate, error)
	// Limit is the most open files of a process.
	Limit() (uint64, error)
}

// Here is the machine that the program runs on.
type Here struct{}

// ListenTCP implements Machine.
func (Here) ListenTCP(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// OpenMedia implements Machine.
func (Here) OpenMedia(m config.Media) (Media, error) {
	s, err := udp.Listen(udp.Config{
		Listen:        netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(m.Port)),
		ReceiveBuffer: m.ReceiveBuffer, SendBuffer: m.SendBuffer,
	})
	if err != nil {
		return Media{}, err
	}
	f := s.Features()
	return Media{
		Family: strings.ToLower(f.Family.String()), GSO: f.GSO, GRO: f.GRO,
		ReceiveBuffer: f.ReceiveBuffer, SendBuffer: f.SendBuffer,
	}, s.Close()
}

// Addresses implements Machine.
func (Here) Addresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("doctor: interfaces: %w", err)
	}
	var out []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("doctor: addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Addr())
			}
		}
	}
	return out, nil
}

// Clock implements Machine.
func (Here) Clock() (time.Time, bool, error) {
	synchronised, err := clockSynchronised()
	return time.Now(), synchronised, err
}

// Files implements Machine.
func (Here) Files() Files { return localFiles{} }

type localFiles struct{}

func (localFiles) Mode(name string) (fs.FileMode, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

// Creatable asks about the nearest folder above that is there.
func (localFiles) Creatable(dir string) error {
	for {
		err := writable(dir)
		above := filepath.Dir(dir)
		if err == nil || !os.IsNotExist(err) || above == dir {
			return err
		}
		dir = above
	}
}

func (localFiles) Certificate(files config.TLS, dataDir string) (*x509.Certificate, error) {
	if files.CertFile != "" {
		cert, err := tlscert.Load(tlscert.Files{Cert: files.CertFile, Key: files.KeyFile})
		if err != nil {
			return nil, err
		}
		return cert.Leaf, nil
	}
	name := tlscert.CertFile(filepath.Join(dataDir, "tls"))
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("doctor: %s holds no PEM", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

func (localFiles) Limit() (uint64, error) { return openFileLimit() }
