/* The relay: ChannelData to what a peer gets, and back (RFC 8656 §12).
 *
 * It knows the flows that it was told of and nothing else. Whatever it is in
 * doubt about it passes up unchanged, for the server can always serve it. */
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

#include "maps.h"
#include "parse.h"

#define AF_INET 2
#define AF_INET6 10

/* A packet on its way: what came in, what goes out, and the lengths of both. */
struct job {
	struct packet in;
	struct flow_out out;
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
	__u32 payload; /* without header and padding */
	__u32 len;     /* of UDP, going out */
	__u64 padding; /* its sum */
	__u16 check;   /* of UDP, going out */
};

/* Padding after ChannelData is allowed over UDP, by up to three bytes. */
static __always_inline enum verdict measure(struct __sk_buff *skb, struct job *j)
{
	__u32 whole = j->in.len - sizeof(struct udphdr), pad, at;
	__u8 b = 0;

	j->payload = whole;
	j->padding = 0;
	j->len = j->in.len + CHANNEL_HEADER;
	if (j->out.channel)
		return j->in.l3 + j->len > j->out.mtu ? ROOM : RELAYED_DOWN;

	j->payload = bpf_ntohs(j->in.word[1]);
	pad = whole - CHANNEL_HEADER - j->payload;
	if (whole < CHANNEL_HEADER || pad > 3 || j->payload == 0)
		return LENGTH;
	j->len = j->payload + sizeof(struct udphdr);
	if (j->in.l3 + j->len > j->out.mtu)
		return ROOM;
	at = LOOKED_AT(j->in.l3) + j->payload;
	for (__u32 i = 0; i < 3 && i < pad; i++) {
		if (bpf_skb_load_bytes(skb, at + i, &b, 1))
			return LENGTH;
		j->padding += (j->payload + i) & 1 ? (__u64)b << 8 : b;
	}
	return RELAYED_UP;
}

/* The UDP checksum of what goes out; 0 means none, which IPv4 allows. */
static __always_inline enum verdict checksum(struct job *j)
{
	const struct udphdr *udp = &j->in.udp;
	__u64 before = sum_pseudo(&j->in.key.remote, &j->in.key.local, udp->len);
	__u64 after = sum_pseudo(&j->out.source, &j->out.dest, bpf_htons(j->len));

	if (!udp->check) {
		j->check = 0;
		return j->in.l3 == sizeof(struct iphdr) ? MISS : CHECKSUM;
	}
	/* The sender left the rest of the sum to a device (CHECKSUM_PARTIAL), which would count from where UDP was. */
	if (udp->check == fold(before))
		return CHECKSUM;
	before += (__u64)udp->source + udp->dest + udp->len;
	after += (__u64)j->out.source_port + j->out.dest_port + bpf_htons(j->len);
	if (j->out.channel)
		after += (__u64)j->out.channel + bpf_htons(j->payload);
	else
		before += (__u64)j->in.word[0] + j->in.word[1] + j->padding;
	j->check = csum_replace(udp->check, before, after);
	if (!j->check)
		j->check = 0xffff;
	return MISS;
}

/* TTL one less; DSCP, ECN, DF and identification as they were (RFC 8656 §15). */
static __always_inline void rewrite_v4(struct job *j)
{
	struct iphdr *ip = &j->ip.v4;
	__be16 *hops = (void *)&ip->ttl;
	__u64 gone = (__u64)ip->saddr + ip->daddr + ip->tot_len + *hops;

	ip->saddr = j->out.source.word[3];
	ip->daddr = j->out.dest.word[3];
	ip->tot_len = bpf_htons(sizeof(*ip) + j->len);
	ip->ttl--;
	ip->check = csum_replace(ip->check, gone, (__u64)ip->saddr + ip->daddr + ip->tot_len + *hops);
}

static __always_inline void rewrite_v6(struct job *j)
{
	struct ipv6hdr *ip = &j->ip.v6;

	__builtin_memcpy(&ip->saddr, &j->out.source, sizeof(struct addr));
	__builtin_memcpy(&ip->daddr, &j->out.dest, sizeof(struct addr));
	ip->payload_len = bpf_htons(j->len);
	ip->hop_limit--;
}

/* Puts the headers where they belong in the resized packet. */
static __always_inline int put(struct __sk_buff *skb, const struct job *j, __be16 proto, __u32 l3)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct udphdr *udp = (void *)(eth + 1) + l3;
	__be16 *channel = (void *)(udp + 1);

	if ((void *)(udp + 1) > end)
		return -1;
	eth->h_proto = proto;
	__builtin_memcpy(eth + 1, &j->ip, l3);
	udp->source = j->out.source_port;
	udp->dest = j->out.dest_port;
	udp->len = bpf_htons(j->len);
	udp->check = j->check;
	if (!j->out.channel)
		return 0;
	if ((void *)(channel + 2) > end)
		return -1;
	channel[0] = j->out.channel;
	channel[1] = bpf_htons(j->payload);
	return 0;
}

/* From here on the packet is ours: it goes out or nowhere. */
static __always_inline int transmit(struct __sk_buff *skb, struct job *j, enum verdict v)
{
	struct bpf_redir_neigh hop = {};
	__u32 l3 = j->in.l3;
	__u32 frame = sizeof(struct ethhdr) + l3 + (v == RELAYED_UP ? j->len + CHANNEL_HEADER : j->in.len);
	int grow = v == RELAYED_UP ? -CHANNEL_HEADER : CHANNEL_HEADER;
	int failed;

	if (skb->len != frame && bpf_skb_change_tail(skb, frame, 0))
		goto drop;
	if (bpf_skb_adjust_room(skb, grow, BPF_ADJ_ROOM_MAC, 0))
		goto drop;
	/* A short payload may leave less than the headers that follow in the linear part. */
	if (bpf_skb_pull_data(skb, sizeof(struct ethhdr) + l3 + sizeof(struct udphdr) + (grow > 0 ? grow : 0)))
		goto drop;
	if (l3 == sizeof(struct iphdr)) {
		rewrite_v4(j);
		failed = put(skb, j, bpf_htons(ETH_P_IP), sizeof(struct iphdr));
		hop.nh_family = AF_INET;
		hop.ipv4_nh = j->out.hop.word[3];
	} else {
		rewrite_v6(j);
		failed = put(skb, j, bpf_htons(ETH_P_IPV6), sizeof(struct ipv6hdr));
		hop.nh_family = AF_INET6;
		__builtin_memcpy(hop.ipv6_nh, &j->out.hop, sizeof(struct addr));
	}
	if (failed)
		goto drop;
	account(j->out.slot, j->payload);
	count(v);
	return bpf_redirect_neigh(j->out.ifindex, &hop, sizeof(hop), 0);
drop:
	count(DROPPED);
	return TC_ACT_SHOT;
}

static __always_inline int pass(enum verdict v)
{
	count(v);
	return TC_ACT_UNSPEC;
}

/* Finds the flow, and copies what changing the packet would take away. */
static __always_inline enum verdict find(struct __sk_buff *skb, struct job *j)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct flow_out *out;
	enum verdict v = parse(data, end, &j->in);

	if (v != MISS)
		return v;
	out = bpf_map_lookup_elem(&flows, &j->in.key);
	if (!out && is_channel(j->in.word[0])) {
		j->in.key.channel = j->in.word[0];
		out = bpf_map_lookup_elem(&flows, &j->in.key);
	}
	if (!out)
		return MISS;
	j->out = *out;
	if (skb->gso_size)
		return SEGMENTS;
	if (skb->len < sizeof(struct ethhdr) + j->in.l3 + j->in.len)
		return LENGTH;
	if (j->in.l3 == sizeof(struct iphdr)) {
		if (data + sizeof(struct ethhdr) + sizeof(struct iphdr) > end)
			return LENGTH;
		__builtin_memcpy(&j->ip.v4, data + sizeof(struct ethhdr), sizeof(struct iphdr));
	} else {
		if (data + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) > end)
			return LENGTH;
		__builtin_memcpy(&j->ip.v6, data + sizeof(struct ethhdr), sizeof(struct ipv6hdr));
	}
	return measure(skb, j);
}

SEC("tc")
int relay_tcx(struct __sk_buff *skb)
{
	struct job j = {};
	enum verdict v, sum;
	__u32 want = LOOKED_AT(sizeof(struct ipv6hdr));

	if (skb->pkt_type != PACKET_HOST)
		return pass(OTHER);
	if (skb->vlan_present)
		return pass(TAGGED);
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return pass(OTHER);
	if (bpf_skb_pull_data(skb, skb->len < want ? skb->len : want))
		return pass(OTHER);
	v = find(skb, &j);
	if (v != RELAYED_UP && v != RELAYED_DOWN)
		return pass(v);
	sum = checksum(&j);
	if (sum != MISS)
		return pass(sum);
	return transmit(skb, &j, v);
}

char _license[] SEC("license") = "Dual MIT/GPL";
