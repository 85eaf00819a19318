/* The guard: what comes to a port of the TURN server from somebody who has
 * no allocation is either a STUN message, and not too many of them, or it goes
 * no further. Whoever has one passes, whatever he sends. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"

#define STUN_HEADER 20 /* RFC 8489 §5 */
#define STUN_COOKIE bpf_htonl(0x2112a442)

/* What became of a packet to a guarded port. */
enum guard_verdict {
	KNOWN,     /* of a 5-tuple with an allocation */
	ALLOWED,   /* from a network that may send as much as it likes */
	STRANGER,  /* STUN, within what a stranger may send */
	DENIED,    /* dropped: from a network that may send nothing */
	MALFORMED, /* dropped: neither STUN nor ChannelData */
	STRAY,     /* dropped: ChannelData of somebody without an allocation */
	FLOOD,     /* dropped: more than a stranger may send */
	GUARD_VERDICTS,
};

enum { ALLOW = 1, DENY = 2 };

struct port {
	struct addr local;
	__be16 port;
	__u16 zero;
};

/* A 5-tuple with an allocation. */
struct session {
	struct addr local, remote;
	__be16 local_port, remote_port;
};

struct network {
	__u32 bits; /* of the mapped form */
	struct addr addr;
};

/* How long one packet of a stranger takes of his time, and how much he may be
 * ahead of it, in nanoseconds. */
volatile const __u64 packet_time = 1;
volatile const __u64 burst_time = 1;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct port);
	__type(value, __u8);
} guarded SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct session);
	__type(value, __u8);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct network);
	__type(value, __u8);
} networks SEC(".maps");

/* When a stranger's time is up to; those not heard of for long make room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct addr);
	__type(value, __u64);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GUARD_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} guard_verdicts SEC(".maps");

/* Only named so that the types get into the object's BTF, for the Go side. */
const enum guard_verdict *unused_verdict __attribute__((unused));

static __always_inline int end(enum guard_verdict v)
{
	__u32 key = v;
	__u64 *n = bpf_map_lookup_elem(&guard_verdicts, &key);

	if (n)
		*n += 1;
	return v >= DENIED ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* MALFORMED unless it is a STUN message as long as it says (RFC 8489 §5). */
static __always_inline enum guard_verdict shape(struct __sk_buff *skb, const struct packet *p)
{
	__u32 len = p->len - sizeof(struct udphdr);
	__u16 type = bpf_ntohs(p->word[0]), said = bpf_ntohs(p->word[1]);
	__be32 cookie = 0;

	if (is_channel(p->word[0]))
		return STRAY;
	if (type >> 14 || len < STUN_HEADER || said & 3 || said + STUN_HEADER != len)
		return MALFORMED;
	if (bpf_skb_load_bytes(skb, LOOKED_AT(p->l3), &cookie, sizeof(cookie)) || cookie != STUN_COOKIE)
		return MALFORMED;
	return STRANGER;
}

/* One customer is an IPv4 address or a network of 64 bits. Two packets at the
 * same moment may count as one. */
static __always_inline enum guard_verdict patience(struct addr from)
{
	__u64 now = bpf_ktime_get_coarse_ns(), *until, next;

	if (from.word[0] || from.word[1] || from.word[2] != MAPPED) {
		from.word[2] = 0;
		from.word[3] = 0;
	}
	until = bpf_map_lookup_elem(&sources, &from);
	if (!until) {
		next = now + packet_time;
		bpf_map_update_elem(&sources, &from, &next, BPF_ANY);
		return STRANGER;
	}
	next = *until > now ? *until : now;
	if (next - now > burst_time)
		return FLOOD;
	*until = next + packet_time;
	return STRANGER;
}

SEC("tc")
int guard_tcx(struct __sk_buff *skb)
{
	struct packet p = {};
	struct port port = {};
	struct session session = {};
	struct network network = {};
	enum guard_verdict v;
	__u32 want = LOOKED_AT(sizeof(struct ipv6hdr));
	__u8 *list;

	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TC_ACT_UNSPEC;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	if (bpf_skb_pull_data(skb, skb->len < want ? skb->len : want))
		return TC_ACT_UNSPEC;
	if (parse((void *)(long)skb->data, (void *)(long)skb->data_end, &p) != MISS)
		return TC_ACT_UNSPEC;
	port.local = p.key.local;
	port.port = p.key.local_port;
	if (!bpf_map_lookup_elem(&guarded, &port))
		return TC_ACT_UNSPEC;

	session.local = p.key.local;
	session.remote = p.key.remote;
	session.local_port = p.key.local_port;
	session.remote_port = p.key.remote_port;
	if (bpf_map_lookup_elem(&sessions, &session))
		return end(KNOWN);
	network.bits = 128;
	network.addr = p.key.remote;
	list = bpf_map_lookup_elem(&networks, &network);
	if (list && *list == DENY)
		return end(DENIED);
	v = shape(skb, &p);
	if (v != STRANGER)
		return end(v);
	if (list)
		return end(ALLOWED);
	return end(patience(p.key.remote));
}

char _license[] SEC("license") = "Dual MIT/GPL";
