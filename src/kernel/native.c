// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tables of record.h and intf.h for src/kernel/native.rs.
 */
#include "intf.h"

struct desc {
	const char *name;
	const char *type;
	const char *unit;
	const char *source;
	const char *description;
	unsigned int offset;
	unsigned int size;
};

const struct desc native_features[NR_FEATURES] = {
#define X(id, name, unit, source, desc)                                                                                \
	{#name, "s16", unit, source, desc, offsetof(struct burst_sample, feature_q8) + 2 * FEATURE_##id, 2},
	SCX_ML_FEATURES(X)
#undef X
};

const struct desc native_columns[] = {
#define X(type, name, unit, source, desc)                                                                              \
	{#name, #type, unit, source, desc, offsetof(struct burst_sample, name), sizeof(type)},
	SCX_ML_COLUMNS(X)
#undef X
};
const unsigned int native_nr_columns = sizeof(native_columns) / sizeof(native_columns[0]);

const struct desc native_classes[NR_CLASSES] = {
#define X(id, name, desc) {#name, "", "", "", desc, CLASS_##id, 0},
	SCX_ML_CLASSES(X)
#undef X
};

const struct desc native_slice_sources[] = {
#define X(id, name, desc) {#name, "", "", "", desc, SLICE_##id, 0},
	SCX_ML_SLICE_SOURCES(X)
#undef X
};
const unsigned int native_nr_slice_sources = sizeof(native_slice_sources) / sizeof(native_slice_sources[0]);

const struct desc native_counters[] = {
#define X(name, desc) {#name, "u64", "", "", desc, offsetof(struct counters, name), 8},
	SCX_ML_COUNTERS(X)
#undef X
};
const unsigned int native_nr_counters = sizeof(native_counters) / sizeof(native_counters[0]);
