//! Rank and permutation tests, exact for the sample sizes benchmarks have.

/// Above this total the normal approximation is good and the exact count needless.
const EXACT_UP_TO: usize = 60;

/// Mid-ranks of the joined samples, doubled so that they are integers, with the sizes of the groups of ties.
fn doubled_ranks(a: &[f64], b: &[f64]) -> (Vec<usize>, Vec<usize>) {
    let joined: Vec<f64> = a.iter().chain(b).copied().collect();
    let mut order: Vec<usize> = (0..joined.len()).collect();
    order.sort_by(|x, y| joined[*x].total_cmp(&joined[*y]));
    let mut ranks = vec![0; joined.len()];
    let mut ties = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let mut end = start;
        while end < order.len() && joined[order[end]] == joined[order[start]] {
            end += 1;
        }
        // Ranks start+1 ..= end; twice their mean is start + 1 + end.
        for i in &order[start..end] {
            ranks[*i] = start + 1 + end;
        }
        ties.push(end - start);
        start = end;
    }
    (ranks, ties)
}

/// Two-sided p of the Mann-Whitney (Wilcoxon rank-sum) test that `a` and `b` come from one distribution.
///
/// Exact, ties included, by counting all ways to choose the ranks of `a`, up to 60 values together; with the normal
/// approximation (tie and continuity corrected) beyond. 1 if either is empty.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let (ranks, ties) = doubled_ranks(a, b);
    let sum: usize = ranks[..a.len()].iter().sum();
    let n = ranks.len();
    if n <= EXACT_UP_TO {
        exact(&ranks, a.len(), sum)
    } else {
        approximate(&ties, a.len(), b.len(), sum)
    }
}

fn exact(ranks: &[usize], chosen: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // ways[k][s]: subsets of k ranks with doubled sum s.
    let mut ways = vec![vec![0.0f64; total + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for &r in ranks {
        for k in (1..=chosen).rev() {
            for s in (r..=total).rev() {
                ways[k][s] += ways[k - 1][s - r];
            }
        }
    }
    // Distance from the mean, times the number of ranks, to stay in integers.
    let distance = |s: usize| (s * ranks.len()).abs_diff(total * chosen);
    let observed = distance(sum);
    let all: f64 = ways[chosen].iter().sum();
    let as_far: f64 = ways[chosen]
        .iter()
        .enumerate()
        .filter(|(s, _)| distance(*s) >= observed)
        .map(|(_, w)| w)
        .sum();
    (as_far / all).min(1.0)
}

fn approximate(ties: &[usize], na: usize, nb: usize, doubled_sum: usize) -> f64 {
    let (na, nb) = (na as f64, nb as f64);
    let n = na + nb;
    let u = doubled_sum as f64 / 2.0 - na * (na + 1.0) / 2.0;
    let tied: f64 = ties.iter().map(|t| (*t as f64).powi(3) - *t as f64).sum();
    let variance = na * nb / 12.0 * ((n + 1.0) - tied / (n * (n - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - na * nb / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    (2.0 * normal_tail(z)).min(1.0)
}

/// P(Z > z) for z >= 0 (Abramowitz and Stegun 26.2.17, error below 7.5e-8).
fn normal_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    poly * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Two-sided p of the sign-flip permutation test that paired differences are symmetric around 0.
///
/// Exact by trying all 2^n signs up to 16 pairs. Beyond, the first 16 would not do the rest justice, so the same is
/// done with the normal approximation of the sum. With n pairs p is never below 2^(1-n): five pairs cannot reach 5 %.
pub fn sign_flip(differences: &[f64]) -> f64 {
    let n = differences.len();
    let observed: f64 = differences.iter().sum::<f64>().abs();
    if n == 0 {
        return 1.0;
    }
    if n > 16 {
        let variance: f64 = differences.iter().map(|d| d * d).sum();
        return if variance > 0.0 {
            (2.0 * normal_tail(observed / variance.sqrt())).min(1.0)
        } else {
            1.0
        };
    }
    // Sums that are equal on paper must count as equal.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let as_far = (0u32..1 << n)
        .filter(|signs| {
            let sum: f64 = differences
                .iter()
                .enumerate()
                .map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d })
                .sum();
            sum.abs() >= observed - slack
        })
        .count();
    as_far as f64 / f64::from(1u32 << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hollander and Wolfe (1973), p. 69: permeability of the human chorioamnion. W = 35, one-sided exact p = 0.1272.
    #[test]
    fn mann_whitney_worked_example() {
        let term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let early = [1.15, 0.88, 0.90, 0.74, 1.21];
        let (ranks, _) = doubled_ranks(&term, &early);
        let w = ranks[..10].iter().sum::<usize>() / 2 - 10 * 11 / 2;
        assert_eq!(w, 35);
        assert!((mann_whitney(&term, &early) - 2.0 * 0.1272).abs() < 2e-4);
    }

    #[test]
    fn separated_samples_give_the_smallest_p_there_is() {
        let p = mann_whitney(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((p - 2.0 / 252.0).abs() < 1e-12);
    }

    #[test]
    fn equal_samples_give_one_and_the_order_does_not_matter() {
        assert_eq!(mann_whitney(&[2.0; 5], &[2.0; 5]), 1.0);
        let (a, b) = ([1.0, 5.0, 3.0], [2.0, 8.0, 9.0, 3.0]);
        assert!((mann_whitney(&a, &b) - mann_whitney(&b, &a)).abs() < 1e-12);
    }

    #[test]
    fn the_approximation_meets_the_exact_value() {
        let a: Vec<f64> = (0..30).map(|i| f64::from(i) + 0.4).collect();
        let b: Vec<f64> = (0..30).map(|i| f64::from(i) * 1.2 + 2.0).collect();
        let exact = mann_whitney(&a, &b);
        let (ranks, ties) = doubled_ranks(&a, &b);
        let approx = approximate(&ties, 30, 30, ranks[..30].iter().sum());
        assert!((exact - approx).abs() < 0.01, "{exact} {approx}");
    }

    /// Fisher's exact test of Darwin's maize (Design of Experiments, 1935, section 21): of the 32,768 sign patterns of
    /// the 15 differences, 1,726 reach the observed sum of 314: p = 0.0527.
    #[test]
    fn sign_flip_worked_example() {
        let d = [
            49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0,
            -48.0,
        ];
        assert!(
            (sign_flip(&d) - 1726.0 / 32768.0).abs() < 1e-9,
            "{}",
            sign_flip(&d) * 32768.0
        );
    }

    #[test]
    fn five_pairs_never_reach_five_percent() {
        assert_eq!(sign_flip(&[1.0, 1.1, 0.9, 1.2, 1.3]), 2.0 / 32.0);
        assert_eq!(sign_flip(&[]), 1.0);
        assert_eq!(sign_flip(&[0.0; 4]), 1.0);
    }
}
