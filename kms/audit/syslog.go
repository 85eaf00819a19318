package audit

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// facility is "log audit", severities are informational and warning: RFC 5424 §6.2.1.
const (
	facility = 13
	informal = 6
	warning  = 4
)

// AppendSyslog appends a row as a message of RFC 5424 §6, without a frame: all of it in one element of structured data, by which the
// chain can be checked from the receiver's copy alone. An enterprise number names whose element it is.
func AppendSyslog(dst []byte, r Row, host string, enterprise int) []byte {
	severity := informal
	if r.Outcome != Done {
		severity = warning
	}
	dst = append(dst, '<')
	dst = strconv.AppendInt(dst, facility*8+int64(severity), 10)
	dst = append(dst, ">1 "...)
	dst = r.At.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z07:00")
	dst = append(dst, ' ')
	dst = appendToken(dst, host, 255)
	dst = append(dst, " sotto-kms - "...)
	dst = appendToken(dst, r.Event, 32)
	dst = append(dst, " [audit@"...)
	dst = strconv.AppendInt(dst, int64(enterprise), 10)
	for _, f := range [...]struct{ name, value string }{
		{"org", r.Org},
		{"seq", strconv.FormatInt(r.Seq, 10)},
		{"time", strconv.FormatInt(r.At.UnixMicro(), 10)},
		{"outcome", string(r.Outcome)},
		{"reason", r.Reason},
		{"actor", r.Actor},
		{"client", r.Client},
		{"service", r.Service},
		{"via", r.Via},
		{"object", r.Object},
		{"resource", r.Resource},
		{"hash", hex.EncodeToString(r.Hash[:])},
	} {
		if f.value == "" {
			continue
		}
		dst = append(append(dst, ' '), f.name...)
		dst = append(dst, `="`...)
		for _, c := range f.value { // RFC 5424 §6.3.3: three characters have an escape, the others stand for themselves
			if strings.ContainsRune(`"\]`, c) {
				dst = append(dst, '\\')
			}
			dst = append(dst, string(c)...)
		}
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// appendToken appends printable ASCII, as headers have it, and - for nothing.
func appendToken(dst []byte, s string, most int) []byte {
	begin := len(dst)
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && len(dst)-begin < most {
			dst = append(dst, c)
		}
	}
	if len(dst) == begin {
		dst = append(dst, '-')
	}
	return dst
}

// appendFrame appends a message with its length before it: RFC 5425 §4.3.
func appendFrame(dst []byte, message []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(message)), 10)
	return append(append(dst, ' '), message...)
}

// writeWait is how long a receiver may take for what is written at once.
const writeWait = 10 * time.Second
