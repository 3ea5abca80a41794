//! Holm's step-down correction (Scand. J. Statist. 6, 1979): the chance of even one false verdict in a family of tests
//! stays at the level, without assuming that the tests are independent.

/// The adjusted p-values, in the order given, each at most 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut floor: f64 = 0.0;
    for (rank, i) in order.into_iter().enumerate() {
        // Never below an already adjusted smaller one.
        floor = floor.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = floor;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::holm;

    fn close(a: &[f64], b: &[f64]) {
        assert!(
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12),
            "{a:?} != {b:?}"
        );
    }

    /// The usual textbook example: of 0.01, 0.04, 0.03 and 0.005 only the first and last survive at 5 %.
    #[test]
    fn worked_example() {
        close(&holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]);
    }

    #[test]
    fn never_above_one_and_empty_stays_empty() {
        close(&holm(&[0.5, 0.9]), &[1.0, 1.0]);
        close(&holm(&[]), &[]);
        close(&holm(&[0.02]), &[0.02]);
    }
}
