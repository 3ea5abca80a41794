//! Rows that are not in the sums of their stream yet, gathered in integers.
//!
//! The features come in Q8, so that integers lose nothing of them, and what a row costs is some hundred multiplications of
//! integers: on an emulated CPU a fifth of what those of floating point cost.

use crate::kernel::bpf::NR_FEATURES;
use crate::learn::row::Row;

/// The features, and behind them what the kind's average has missed by.
pub const COLUMNS: usize = NR_FEATURES + 1;
pub const TARGET: usize = NR_FEATURES;

/// Pairs of columns: a lower triangle by lines.
pub const PRODUCTS: usize = line(COLUMNS);

/// Where the line of column `i` begins in that triangle.
pub const fn line(i: usize) -> usize {
    i * (i + 1) / 2
}

/// Rows that are gathered at most.
const BLOCK_ROWS: usize = 64;

/// Columns in octaves times this, less those of the block's first row; so many are no octaves any more.
const UNITS_PER_OCTAVE: f64 = 4096.0;
const UNITS_MAX: i32 = (1 << 19) - 1;

/// The weight of the block's first row in units, and the most that a row may have. A lighter one counts for one unit at
/// least; a heavier one begins another block. 64 (20-bit distance)² × 16-bit weight are within 63 bits.
const WEIGHT_UNITS: f64 = 1024.0;
const WEIGHT_UNITS_MAX: f64 = 65535.0;

/// See the module.
#[derive(Debug, Clone)]
pub struct Block {
    rows: usize,
    /// Of the first row, in units.
    origin: [i32; COLUMNS],
    /// What a unit of weight counts for, as scaled.
    unit: f64,
    /// Sums in units: of the weights and their squares, of weighted distances from the origin, and of their products.
    weight: i64,
    weight_squared: i64,
    off: [i64; COLUMNS],
    products: Vec<i64>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            rows: 0,
            origin: [0; COLUMNS],
            unit: 0.0,
            weight: 0,
            weight_squared: 0,
            off: [0; COLUMNS],
            products: vec![0; PRODUCTS],
        }
    }
}

impl Block {
    /// Whether a row of `weight`, as scaled, still goes in.
    pub fn has_room_for(&self, weight: f64) -> bool {
        self.rows == 0 || self.rows < BLOCK_ROWS && weight <= WEIGHT_UNITS_MAX * self.unit
    }

    /// Take a row in, for which there is room and which counts for `weight` (above 0) as scaled.
    pub fn add(&mut self, row: &Row, weight: f64) {
        let limited = |units: f64| (units as i32).clamp(-UNITS_MAX, UNITS_MAX);
        let mut at = [0; COLUMNS];
        for (at, value) in at.iter_mut().zip(&row.x) {
            *at = limited(value * UNITS_PER_OCTAVE);
        }
        at[TARGET] = limited(((row.y - row.avg) * UNITS_PER_OCTAVE).round());
        if self.rows == 0 {
            self.origin = at;
            self.unit = weight / WEIGHT_UNITS;
        }
        let weight = ((weight / self.unit).round() as i64).max(1);
        // Columns that never change, flags above all, are common.
        let mut changed = [0; COLUMNS];
        let mut count = 0;
        for (i, (at, origin)) in at.iter_mut().zip(&self.origin).enumerate() {
            *at -= origin;
            changed[count] = i;
            count += usize::from(*at != 0);
        }
        let changed = &changed[..count];
        for (n, &i) in changed.iter().enumerate() {
            let counted = weight * i64::from(at[i]);
            self.off[i] += counted;
            let line = &mut self.products[line(i)..][..=i];
            for &j in &changed[..=n] {
                line[j] += counted * i64::from(at[j]);
            }
        }
        self.rows += 1;
        self.weight += weight;
        self.weight_squared += weight * weight;
    }

    /// Begin another.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.weight = 0;
        self.weight_squared = 0;
        self.off.fill(0);
        self.products.fill(0);
    }

    /// How many they are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bursts that the rows stand for, as scaled.
    pub fn weight(&self) -> f64 {
        self.weight as f64 * self.unit
    }

    /// Sum of the squares of their weights.
    pub fn weight_squared(&self) -> f64 {
        self.weight_squared as f64 * self.unit * self.unit
    }

    /// Mean of a column, octaves.
    pub fn mean(&self, i: usize) -> f64 {
        let off = self.off[i] as f64 / self.weight as f64;
        (f64::from(self.origin[i]) + off) / UNITS_PER_OCTAVE
    }

    /// Sum of the weighted products of two columns' distances from their means, `j` ≤ `i`; `at` is where the lower triangle
    /// by lines has it.
    pub fn product(&self, i: usize, j: usize, at: usize) -> f64 {
        let (i, j) = (self.off[i], self.off[j]);
        let mut product = self.products[at] as f64;
        if i != 0 && j != 0 {
            product -= i as f64 * j as f64 / self.weight as f64;
        }
        product * self.unit / (UNITS_PER_OCTAVE * UNITS_PER_OCTAVE)
    }
}
