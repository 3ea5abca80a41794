//! Weighted sums of products of columns: most of what a fit computes, and all that grows with the window.
//!
//! Rows are taken in blocks with each column contiguous, so that a sum of products is one straight run that the compiler
//! turns into vector instructions.

/// Rows of a block: so few that the columns of a block stay in the first-level cache.
pub const BLOCK: usize = 64;

/// Partial sums of a run, independent of each other: a single one would have each addition wait for the last.
const LANES: usize = 8;

/// A column's values in a block.
pub type Column = [f64; BLOCK];

/// Sums over the rows so far, each times the row's weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// Of each column.
    pub first: Vec<f64>,
    /// Of the products of two columns, lower triangle by lines.
    pub second: Vec<Vec<f64>>,
}

impl Sums {
    /// Of no rows yet.
    pub fn new(columns: usize) -> Self {
        Self {
            first: vec![0.0; columns],
            second: (1..=columns).map(|n| vec![0.0; n]).collect(),
        }
    }

    /// Take a block in; a row that is not there has weight 0.
    pub fn add(&mut self, columns: &[Column], weights: &Column) {
        // Constant columns, flags above all, are common: nothing to add.
        let varies = |c: &&(usize, &Column)| c.1.iter().any(|&x| x != 0.0);
        let varying: Vec<(usize, &Column)> =
            columns.iter().enumerate().filter(|c| varies(&c)).collect();
        for (n, &(i, column)) in varying.iter().enumerate() {
            let weighted: Column = std::array::from_fn(|r| weights[r] * column[r]);
            self.first[i] += weighted.iter().sum::<f64>();
            for &(j, other) in &varying[..=n] {
                self.second[i][j] += product(&weighted, other);
            }
        }
    }
}

fn product(a: &Column, b: &Column) -> f64 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(b.as_chunks::<LANES>().0)
    {
        for (sum, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        let value = |c: usize, r: usize| ((r * 7 + c * 13) % 11) as f64 - 5.0;
        let columns: Vec<Column> = (0..3)
            .map(|c| std::array::from_fn(|r| value(c, r)))
            .collect();
        let weights: Column = std::array::from_fn(|r| (r % 4) as f64);
        let mut sums = Sums::new(3);
        sums.add(&columns, &weights);
        sums.add(&columns, &weights);
        for i in 0..3 {
            let first: f64 = (0..BLOCK).map(|r| 2.0 * weights[r] * value(i, r)).sum();
            assert_eq!(sums.first[i], first);
            for j in 0..=i {
                let second: f64 = (0..BLOCK)
                    .map(|r| 2.0 * weights[r] * value(i, r) * value(j, r))
                    .sum();
                assert_eq!(sums.second[i][j], second);
            }
        }
    }
}
