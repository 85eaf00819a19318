package rtcp

import "encoding/binary"

// PLI is a picture loss indication (RFC 4585 §6.3.1): the receiver can go on only from a key frame.
type PLI struct {
	SenderSSRC uint32
	MediaSSRC  uint32
}

// ParsePLI reads a picture loss indication.
func ParsePLI(p Packet) (PLI, bool) {
	if !p.is(TypePayloadFeedback, FormatPLI) || len(p.raw) < feedbackHeaderLen {
		return PLI{}, false
	}
	return PLI{SenderSSRC: p.SenderSSRC(), MediaSSRC: p.MediaSSRC()}, true
}

// AppendPLI appends a picture loss indication.
func AppendPLI(dst []byte, sender, media uint32) []byte {
	start := len(dst)
	return setLength(appendFeedbackHeader(dst, TypePayloadFeedback, FormatPLI, sender, media), start)
}

const firEntryLen = 8

// FIR is a full intra request (RFC 5104 §4.3.1): a command where PLI is a hint. The streams stand in its entries.
type FIR struct {
	SenderSSRC uint32
	entries    []byte
}

// ParseFIR reads a full intra request.
func ParseFIR(p Packet) (FIR, bool) {
	if !p.is(TypePayloadFeedback, FormatFIR) || len(p.raw) < feedbackHeaderLen+firEntryLen {
		return FIR{}, false
	}
	return FIR{SenderSSRC: p.SenderSSRC(), entries: p.raw[feedbackHeaderLen:]}, true
}

// Entries yields the streams asked for. The command number goes up with each new request and stays in a repetition of
// the same one (RFC 5104 §4.3.1.2).
func (f FIR) Entries(yield func(ssrc uint32, command uint8) bool) {
	for b := f.entries; len(b) >= firEntryLen; b = b[firEntryLen:] {
		if !yield(binary.BigEndian.Uint32(b), b[4]) {
			return
		}
	}
}

// AppendFIR appends a full intra request for one stream. The media SSRC of the header is zero, as RFC 5104 §4.3.1.2 wants.
func AppendFIR(dst []byte, sender, media uint32, command uint8) []byte {
	start := len(dst)
	dst = appendFeedbackHeader(dst, TypePayloadFeedback, FormatFIR, sender, 0)
	dst = binary.BigEndian.AppendUint32(dst, media)
	return setLength(append(dst, command, 0, 0, 0), start)
}
