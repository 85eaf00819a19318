// Package sink is the receiving end of a load generator: sockets that one thread empties, and an account of what came in by each,
// made from clear headers.
//
// It promises that every sequence number is accounted for, that arrival is the kernel's time stamp, and that nearly all media stays
// in it: pion, behind it, opens one packet in fifty. It does not know what server is at the other end.
package sink
