//! The samples of a class as a stream, which forgets: a block of them at a time goes into the sums.

use crate::learn::block::Block;
use crate::learn::moments::Moments;
use crate::learn::row::Row;

/// Sums are scaled back when a new row would count for so much.
const SCALE_MAX: f64 = (1u64 << 32) as f64;

/// See the module. To forget is to multiply all sums by a factor below 1; here new rows are weighted up instead, and all is
/// scaled back now and then, so that forgetting costs nothing.
#[derive(Debug, Clone)]
pub struct Stream {
    moments: Moments,
    block: Block,
    /// What a weight of 1 counts for now, at least 1.
    scale: f64,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            moments: Moments::default(),
            block: Block::default(),
            scale: 1.0,
        }
    }
}

impl Stream {
    /// Take a row in, which counts for `weight` (above 0) bursts. One that is not all of finite numbers is left out.
    pub fn add(&mut self, row: &Row, weight: f64) {
        let finite = (row.y - row.avg + weight).is_finite() && row.x.iter().all(|x| x.is_finite());
        if !finite || weight <= 0.0 {
            return;
        }
        let weight = weight * self.scale;
        if !self.block.has_room_for(weight) {
            self.settle();
        }
        self.block.add(row, weight);
    }

    fn settle(&mut self) {
        if self.block.rows() > 0 {
            self.moments.add(&self.block);
            self.block.clear();
        }
    }

    /// Leave of what is known the share `keep`, above 0 and at most 1.
    pub fn forget(&mut self, keep: f64) {
        self.scale /= keep;
        if self.scale > SCALE_MAX {
            self.settle();
            self.moments.scale_back(1.0 / self.scale);
            self.scale = 1.0;
        }
    }

    /// Rows that were added since the beginning.
    pub fn rows(&self) -> usize {
        self.moments.rows() + self.block.rows()
    }

    /// The sums of all of them.
    pub fn moments(&mut self) -> &Moments {
        self.settle();
        &self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::NR_FEATURES;
    use crate::learn::row::tests::{KIND, row, rows};

    fn of(rows: &[Row]) -> Stream {
        let mut stream = Stream::default();
        rows.iter().for_each(|r| stream.add(r, r.weight));
        stream
    }

    #[test]
    fn the_sums_are_those_of_two_passes() {
        let mut rows = rows(500, |x| x[KIND] + 0.5 * x[3]);
        for (i, row) in rows.iter_mut().enumerate() {
            // What integers hold exactly.
            row.weight = [1.0, 2.0, 4.0][i % 3];
        }
        let mut stream = of(&rows);
        let moments = stream.moments();
        let total: f64 = rows.iter().map(|r| r.weight).sum();
        let mean =
            |f: &dyn Fn(&Row) -> f64| rows.iter().map(|r| r.weight * f(r)).sum::<f64>() / total;
        let missed = |r: &Row| r.y - r.avg;
        let (mean_3, mean_7) = (mean(&|r| r.x[3]), mean(&|r| r.x[7]));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        close(moments.mean(3), mean_3);
        close(moments.mean_target(), mean(&missed));
        let covariance = mean(&|r| (r.x[3] - mean_3) * (r.x[7] - mean_7));
        close(moments.covariance(3, 7), covariance);
        close(moments.covariance(7, 3), covariance);
        let target = mean(&missed);
        close(
            moments.with_target(3),
            mean(&|r| (r.x[3] - mean_3) * (missed(r) - target)),
        );
        close(
            moments.variance_missed(),
            mean(&|r| (missed(r) - target).powi(2)),
        );
        let y = mean(&|r| r.y);
        close(moments.variance(), mean(&|r| (r.y - y).powi(2)));
        let squares: f64 = rows.iter().map(|r| r.weight * r.weight).sum();
        close(moments.effective_rows(), total * total / squares);
    }

    #[test]
    fn what_is_forgotten_counts_for_less_however_often_the_sums_are_scaled_back() {
        let rows = rows(60_000, |x| x[KIND] + 0.5 * x[3]);
        let keep = 0.999;
        let mut stream = Stream::default();
        for row in &rows {
            stream.forget(keep);
            stream.add(row, 1.0);
        }
        let (mut sum, mut weight) = (0.0, 0.0);
        for row in &rows {
            sum = sum * keep + row.x[3];
            weight = weight * keep + 1.0;
        }
        let moments = stream.moments();
        assert!((moments.mean(3) - sum / weight).abs() < 1e-4);
        assert!((moments.effective_rows() - 2_000.0).abs() < 5.0);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let good = rows(10, |x| x[KIND]);
        let mut stream = of(&good);
        let before = format!("{stream:?}");
        for bad in [f64::NAN, f64::INFINITY] {
            let mut x = good[0].x;
            x[4] = bad;
            stream.add(&row(0, x, 20.0), 1.0);
            stream.add(&Row { y: bad, ..good[0] }, 1.0);
            stream.add(&good[0], bad);
        }
        stream.add(&good[0], 0.0);
        assert_eq!(format!("{stream:?}"), before);
    }

    /// Whatever the weights and the distances, nothing overflows, and a column's product with itself is not below 0.
    #[test]
    fn the_largest_rows_fit() {
        let mut rows = rows(1_000, |x| x[KIND]);
        for (i, row) in rows.iter_mut().enumerate() {
            row.x.fill(if i % 2 == 0 { 127.0 } else { -128.0 });
            row.y = 64.0;
            row.weight = if i % 64 == 0 { 1.0 } else { 60.0 };
        }
        let mut stream = of(&rows);
        let moments = stream.moments();
        assert_eq!(moments.rows(), 1_000);
        for i in 0..NR_FEATURES {
            assert!((moments.std(i) - 127.5).abs() < 1.0, "{}", moments.std(i));
        }
    }

    #[test]
    fn a_weight_of_another_order_begins_a_block() {
        let mut rows = rows(300, |x| x[KIND]);
        for (i, row) in rows.iter_mut().enumerate() {
            row.weight = [1e-3, 1.0, 1e6][i / 100];
        }
        let mut stream = of(&rows);
        let last: f64 = rows[200..].iter().map(|r| r.x[3]).sum::<f64>() / 100.0;
        assert!((stream.moments().mean(3) - last).abs() < 1e-2);
        assert!((stream.moments().effective_rows() - 100.0).abs() < 1.0);
    }
}
