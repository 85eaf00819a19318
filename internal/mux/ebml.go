package mux

import (
	"encoding/binary"
	"math"
)

// Element ids of EBML (RFC 8794 §11) and Matroska (RFC 9559 §5.1), those that are written here.
const (
	idEBML             = 0x1a45dfa3
	idEBMLVersion      = 0x4286
	idEBMLReadVersion  = 0x42f7
	idEBMLMaxIDLength  = 0x42f2
	idEBMLMaxSize      = 0x42f3
	idDocType          = 0x4282
	idDocTypeVersion   = 0x4287
	idDocTypeRead      = 0x4285
	idVoid             = 0xec
	idSegment          = 0x18538067
	idSeekHead         = 0x114d9b74
	idSeek             = 0x4dbb
	idSeekID           = 0x53ab
	idSeekPosition     = 0x53ac
	idInfo             = 0x1549a966
	idTimestampScale   = 0x2ad7b1
	idDuration         = 0x4489
	idMuxingApp        = 0x4d80
	idWritingApp       = 0x5741
	idTracks           = 0x1654ae6b
	idTrackEntry       = 0xae
	idTrackNumber      = 0xd7
	idTrackUID         = 0x73c5
	idTrackType        = 0x83
	idFlagLacing       = 0x9c
	idCodecID          = 0x86
	idCodecPrivate     = 0x63a2
	idVideo            = 0xe0
	idPixelWidth       = 0xb0
	idPixelHeight      = 0xba
	idCluster          = 0x1f43b675
	idTimestamp        = 0xe7
	idSimpleBlock      = 0xa3
	idCues             = 0x1c53bb6b
	idCuePoint         = 0xbb
	idCueTime          = 0xb3
	idCueTrackPosition = 0xb7
	idCueTrack         = 0xf7
	idCueCluster       = 0xf1
)

// unknownSize says that an element goes on as far as the file does (RFC 8794 §6.2), in eight bytes so that the size can be put in
// its place.
const unknownSize = 1<<56 - 1

// appendID writes an element id: it carries its own length marker.
func appendID(dst []byte, id uint32) []byte {
	switch {
	case id > 0xffffff:
		return binary.BigEndian.AppendUint32(dst, id)
	case id > 0xffff:
		return append(dst, byte(id>>16), byte(id>>8), byte(id))
	case id > 0xff:
		return append(dst, byte(id>>8), byte(id))
	}
	return append(dst, byte(id))
}

// appendSize writes a data size in its shortest form (RFC 8794 §4.1).
func appendSize(dst []byte, n uint64) []byte {
	length := 1
	for length < 8 && n >= 1<<(7*length)-1 { // all ones is reserved
		length++
	}
	v := n | 1<<(7*length)
	for i := length - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

// appendSize8 writes a data size in eight bytes.
func appendSize8(dst []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, n|1<<56)
}

func appendBytes(dst []byte, id uint32, data []byte) []byte {
	dst = appendSize(appendID(dst, id), uint64(len(data)))
	return append(dst, data...)
}

func appendString(dst []byte, id uint32, s string) []byte { return appendBytes(dst, id, []byte(s)) }

func appendUint(dst []byte, id uint32, v uint64) []byte {
	n := 1
	for n < 8 && v>>(8*n) != 0 {
		n++
	}
	dst = append(appendID(dst, id), byte(0x80|n))
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

// appendUint8 writes an unsigned integer in eight bytes, to be overwritten later.
func appendUint8(dst []byte, id uint32, v uint64) []byte {
	return binary.BigEndian.AppendUint64(append(appendID(dst, id), 0x88), v)
}

func appendFloat(dst []byte, id uint32, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(appendID(dst, id), 0x88), math.Float64bits(v))
}
