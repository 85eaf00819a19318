/* From bytes to what the relay needs to know of a packet. */
#pragma once

#include "csum.h"

#define CHANNEL_HEADER 4
#define CHANNEL_FIRST 0x4000 /* RFC 8656 §12 */
#define CHANNEL_LAST 0x4fff
#define MAPPED bpf_htonl(0xffff)

struct packet {
	struct flow_key key; /* its channel still 0 */
	struct udphdr udp;
	__u32 l3;        /* length of the IP header */
	__u32 len;       /* of UDP, by all headers */
	__be16 word[2];  /* the first four bytes of the payload */
};

/* The least that is looked at: headers and four bytes of payload. */
#define LOOKED_AT(l3) (sizeof(struct ethhdr) + (l3) + sizeof(struct udphdr) + CHANNEL_HEADER)

static __always_inline void mapped(struct addr *a, __be32 v4)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = MAPPED;
	a->word[3] = v4;
}

static __always_inline enum verdict parse_v4(const struct iphdr *ip, const void *end, struct packet *p)
{
	if ((const void *)(ip + 1) > end || ip->protocol != IPPROTO_UDP)
		return OTHER;
	if (ip->ihl != 5)
		return OPTIONS;
	if (ip->frag_off & bpf_htons(0x3fff)) /* more to come, or not the first */
		return FRAGMENT;
	if (ip->ttl < 2)
		return HOPS;
	p->l3 = sizeof(*ip);
	p->len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	mapped(&p->key.remote, ip->saddr);
	mapped(&p->key.local, ip->daddr);
	return MISS;
}

/* Extension headers are another protocol than UDP, fragments among them. */
static __always_inline enum verdict parse_v6(const struct ipv6hdr *ip, const void *end, struct packet *p)
{
	if ((const void *)(ip + 1) > end || ip->nexthdr != IPPROTO_UDP)
		return OTHER;
	if (ip->hop_limit < 2)
		return HOPS;
	p->l3 = sizeof(*ip);
	p->len = bpf_ntohs(ip->payload_len);
	__builtin_memcpy(&p->key.remote, &ip->saddr, sizeof(struct addr));
	__builtin_memcpy(&p->key.local, &ip->daddr, sizeof(struct addr));
	return MISS;
}

/* MISS when the packet may belong to a flow. */
static __always_inline enum verdict parse(const void *data, const void *end, struct packet *p)
{
	const struct ethhdr *eth = data;
	const struct udphdr *udp;
	const __be16 *payload;
	enum verdict v = OTHER;

	if ((const void *)(eth + 1) > end)
		return OTHER;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		v = parse_v4((const void *)(eth + 1), end, p);
		udp = (const void *)(eth + 1) + sizeof(struct iphdr);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		v = parse_v6((const void *)(eth + 1), end, p);
		udp = (const void *)(eth + 1) + sizeof(struct ipv6hdr);
	}
	if (v != MISS)
		return v;
	if ((const void *)(udp + 1) > end || bpf_ntohs(udp->len) != p->len || p->len <= sizeof(*udp))
		return LENGTH;
	p->udp = *udp;
	p->key.remote_port = udp->source;
	p->key.local_port = udp->dest;
	payload = (const void *)(udp + 1);
	if ((const void *)payload + CHANNEL_HEADER <= end) {
		p->word[0] = payload[0];
		p->word[1] = payload[1];
	}
	return MISS;
}

static __always_inline int is_channel(__be16 word)
{
	__u16 n = bpf_ntohs(word);

	return n >= CHANNEL_FIRST && n <= CHANNEL_LAST;
}
