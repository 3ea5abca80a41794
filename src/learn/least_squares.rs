//! The one place where linfa solves: least squares of a problem that is as small as the number of columns.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

/// Fewest rows that a model is fitted on.
pub const MIN_ROWS: usize = 50;

/// Ridge penalty per unit of total weight, for standardised columns.
const RIDGE: f64 = 1e-4;

/// Why there is no model.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum FitError {
    #[error("{found} samples are too few to fit a model, {MIN_ROWS} are needed")]
    TooFew { found: usize },
    #[error("a sample's {what} is {value}, which is not a number to fit on")]
    NotFinite { what: &'static str, value: f64 },
    #[error("all samples have weight 0")]
    NoWeight,
    #[error("linfa cannot solve the regression: {0}")]
    Solve(String),
    #[error("the coefficient of {feature} came out as {value}")]
    Coefficient { feature: &'static str, value: f64 },
}

/// What β least squares of L'β against z gives, with the ridge penalty. `factor` is L by lines.
pub fn least_squares(factor: &[Vec<f64>], z: &[f64]) -> Result<Vec<f64>, FitError> {
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
        x[[k + n, n]] = RIDGE.sqrt();
    }
    let fitted = LinearRegression::new()
        .with_intercept(false)
        .fit(&Dataset::new(x, y))
        .map_err(|e| FitError::Solve(e.to_string()))?;
    Ok(fitted.params().to_vec())
}
