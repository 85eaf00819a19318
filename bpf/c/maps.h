/* The maps. Their sizes are set by the loader. */
#pragma once

#include "types.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow_out);
} flows SEC(".maps");

/* Apart from flows, so that a new way out loses no count. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

/* Only named so that the type gets into the object's BTF, for the Go side. */
const enum verdict *unused_verdict __attribute__((unused));

static __always_inline void count(enum verdict v)
{
	__u32 key = v;
	__u64 *n = bpf_map_lookup_elem(&verdicts, &key);

	if (n)
		*n += 1;
}

/* A flow stays on one CPU as long as its packets do, so this seldom contends. */
static __always_inline void account(__u32 slot, __u64 bytes)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, &slot);

	if (t) {
		__sync_fetch_and_add(&t->packets, 1);
		__sync_fetch_and_add(&t->bytes, bytes);
	}
}
