//! C files for compilers to chew on.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::fmt::Write;

/// One C file of loops and branches, enough for an optimiser to chew on.
pub(super) fn source(functions: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::new();
    for f in 0..functions {
        let (a, b, c) = (
            rng.random_range(3..99),
            rng.random_range(3..99),
            rng.random_range(2..9),
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "int f{f}(const int *v, int n) {{\n  int s = {a};\n  for (int i = 0; i < n; i++) {{\n    \
             for (int j = i; j < n; j += {c})\n      s += (v[i] * {b} ^ v[j]) % ({a} + (i & {c}));\n    \
             switch (s & 7) {{ case 0: s ^= v[i]; break; case 1: s += {b}; break; case 2: s -= i; break; \
             case 5: s *= {c}; break; default: s >>= 1; }}\n  }}\n  return s;\n}}"
        );
    }
    text
}
