/* Internet checksums, kept right by the difference (RFC 1624 §3): a packet
 * that came in with a wrong one leaves with a wrong one. Sums are of 16-bit
 * words as they lie in memory; the byte order does not matter to them. */
#pragma once

#include "types.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* A 32-bit word counts as its two halves: 2^16 is 1 here. */
static __always_inline __u64 sum_addr(const struct addr *a)
{
	return (__u64)a->word[0] + a->word[1] + a->word[2] + a->word[3];
}

/* Both families' pseudo headers in one: the mapped prefix of IPv4 is ffff,
 * which is zero, and must be on both sides or on neither. */
static __always_inline __u64 sum_pseudo(const struct addr *from, const struct addr *to, __be16 len)
{
	return sum_addr(from) + sum_addr(to) + len + bpf_htons(IPPROTO_UDP);
}

/* The checksum after words that summed up to gone have become words that sum
 * up to come. */
static __always_inline __u16 csum_replace(__u16 check, __u64 gone, __u64 come)
{
	return ~fold((__u64)(__u16)~check + (__u16)~fold(gone) + come);
}
