//! The mean of a stream of numbers that count for so many bursts each, which forgets; and how well it is known.

/// See the module.
#[derive(Debug, Clone)]
pub struct Mean {
    /// Share of what is known that a number leaves.
    keep: f64,
    /// Sum of the weights, and of their squares.
    weight: f64,
    weight_squared: f64,
    /// Of the numbers and of their squares, by weight.
    sum: f64,
    sum_squared: f64,
}

impl Mean {
    /// Of about so many numbers, the newest; infinity: all.
    pub fn remembering(rows: f64) -> Self {
        Self {
            keep: 1.0 - 1.0 / rows,
            weight: 0.0,
            weight_squared: 0.0,
            sum: 0.0,
            sum_squared: 0.0,
        }
    }

    /// Take a finite number in that counts for `weight` (above 0) bursts.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.fade(self.keep);
        self.weight += weight;
        self.weight_squared += weight * weight;
        self.sum += weight * value;
        self.sum_squared += weight * value * value;
    }

    /// Let what is known count for the share `keep` of what it did beside what comes.
    pub fn fade(&mut self, keep: f64) {
        self.weight *= keep;
        self.weight_squared *= keep * keep;
        self.sum *= keep;
        self.sum_squared *= keep;
    }

    /// Bursts that it is made of.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Numbers of equal weight that would tell as much (Kish 1965). 0 of none.
    pub fn rows(&self) -> f64 {
        match self.weight_squared > 0.0 {
            true => self.weight * self.weight / self.weight_squared,
            false => 0.0,
        }
    }

    /// 0 of none.
    pub fn mean(&self) -> f64 {
        match self.weight > 0.0 {
            true => self.sum / self.weight,
            false => 0.0,
        }
    }

    /// Standard deviation of the numbers.
    pub fn deviation(&self) -> f64 {
        match self.weight > 0.0 {
            true => (self.sum_squared / self.weight - self.mean().powi(2))
                .max(0.0)
                .sqrt(),
            false => 0.0,
        }
    }

    /// Standard error of the mean.
    pub fn standard_error(&self) -> f64 {
        match self.weight > 0.0 {
            true => self.deviation() / self.rows().sqrt(),
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_numbers_by_weight() {
        let mut mean = Mean::remembering(f64::INFINITY);
        assert_eq!(
            (mean.mean(), mean.rows(), mean.standard_error()),
            (0.0, 0.0, 0.0)
        );
        // One of 1 and three of 5, as two numbers.
        mean.add(1.0, 1.0);
        mean.add(5.0, 3.0);
        assert_eq!((mean.mean(), mean.weight()), (4.0, 4.0));
        assert!((mean.deviation() - 3.0f64.sqrt()).abs() < 1e-12);
        assert_eq!(mean.rows(), 1.6);
    }

    #[test]
    fn it_does_not_matter_what_a_weight_of_one_is() {
        let (mut a, mut b) = (Mean::remembering(50.0), Mean::remembering(50.0));
        for i in 0..200u32 {
            let (value, weight) = (f64::from(i % 7), f64::from(1 + i % 3));
            a.add(value, weight);
            b.add(value, 1024.0 * weight);
        }
        assert_eq!(a.mean(), b.mean());
        assert_eq!(a.standard_error(), b.standard_error());
        assert!((a.rows() - 90.0).abs() < 10.0, "{}", a.rows());
    }

    #[test]
    fn what_has_faded_counts_for_less() {
        let mut mean = Mean::remembering(f64::INFINITY);
        mean.add(0.0, 8.0);
        mean.fade(0.125);
        mean.add(1.0, 1.0);
        assert_eq!(mean.mean(), 0.5);
    }
}
