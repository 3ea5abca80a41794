//! The one place where linfa solves: least squares of a problem that is as small as the number of columns.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

use crate::model::QuantiseError;

/// Fewest rows that a model is fitted on.
pub const ROWS_MIN: usize = 50;

/// Why there is no model.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum FitError {
    #[error("{found} samples are too few to fit a model, {ROWS_MIN} are needed")]
    TooFew { found: usize },
    #[error("linfa cannot solve the regression: {0}")]
    Solve(String),
    #[error("the coefficient of {feature} came out as {value}")]
    Coefficient { feature: &'static str, value: f64 },
    #[error("the kernel would not take it: {0}")]
    Unusable(#[from] QuantiseError),
}

/// The β that minimises |L'β - z|² + `ridge` |β|². `factor` is L by lines, as many as `z` has.
///
/// # Errors
/// When linfa finds none.
pub fn least_squares(factor: &[Vec<f64>], z: &[f64], ridge: f64) -> Result<Vec<f64>, FitError> {
    let k = z.len();
    if k == 0 {
        return Ok(vec![]);
    }
    let mut x = Array2::<f64>::zeros((2 * k, k));
    let mut y = Array1::<f64>::zeros(2 * k);
    for n in 0..k {
        for (m, l) in factor[n].iter().enumerate() {
            x[[m, n]] = *l;
        }
        y[n] = z[n];
        x[[k + n, n]] = ridge.sqrt();
    }
    let fitted = LinearRegression::new()
        .with_intercept(false)
        .fit(&Dataset::new(x, y))
        .map_err(|e| FitError::Solve(e.to_string()))?;
    Ok(fitted.params().to_vec())
}
