/* What the programs and the Go side agree on. The Go types are generated from here. */
#pragma once

#include <linux/types.h>

/* An address of either family; IPv4 in its mapped form (::ffff:a.b.c.d). */
struct addr {
	__be32 word[4];
};

/* The 5-tuple that a packet came in by, seen from this machine. channel is 0
 * for what a peer sent to a relayed address, else the one in its ChannelData. */
struct flow_key {
	struct addr local, remote;
	__be16 local_port, remote_port;
	__be16 channel;
	__u16 zero;
};

/* What becomes of it. */
struct flow_out {
	struct addr source, dest;
	struct addr hop; /* the neighbour to hand it to, dest itself when on link */
	__be16 source_port, dest_port;
	__be16 channel; /* to put in front, 0: the one in front is taken off */
	__u16 mtu;      /* of the way out, by its IP header and what follows */
	__u32 ifindex;  /* the way out */
	__u32 slot;     /* in traffic */
};

/* Payload relayed for one flow_key. */
struct traffic {
	__u64 packets, bytes;
};

/* What happened to a packet; all but the first two and DROPPED leave it as it
 * was, to the stack and with it to the server. */
enum verdict {
	RELAYED_UP,   /* client to peer */
	RELAYED_DOWN, /* peer to client */
	MISS,         /* UDP, but of no flow here (STUN, a flow of the server's) */
	OTHER,        /* neither IPv4 nor IPv6 with UDP on top, or not for this machine */
	TAGGED,       /* a VLAN's: its own device sees it again without the tag */
	OPTIONS,      /* IPv4 options */
	FRAGMENT,     /* of IPv4 */
	SEGMENTS,     /* several datagrams in one buffer (GSO, GRO) */
	HOPS,         /* TTL or hop limit used up */
	LENGTH,       /* lengths that contradict each other, or no payload */
	CHECKSUM,     /* left to the device to fill in, or absent under IPv6 */
	ROOM,         /* too long for the way out with a header more */
	DROPPED,      /* half rewritten when the kernel refused to go on */
	VERDICTS,
};
