/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What user space sees of the BPF side. bindgen reads this header (build/bindings.rs): the structs and constants become
 * kernel::bpf::intf, and every static inline function can be called as one of kernel::native.
 */
#ifndef __SCX_ML_NATIVE_H
#define __SCX_ML_NATIVE_H

#include <stdbool.h>
#include "decide.h"
#include "features.h"
#include "frequency.h"

/* The policy's parameters if nobody sets others. */
static inline struct policy_params policy_defaults(void)
{
	return (struct policy_params)POLICY_DEFAULTS;
}

#endif /* __SCX_ML_NATIVE_H */
