//! The standard normal distribution.

use std::f64::consts::PI;

/// Where its distribution function is `p`, of `p` between 0 and 1: exact to some 1e-14 as long as `p` is.
pub(super) fn quantile(p: f64) -> f64 {
    if p < 0.5 {
        return -quantile(1.0 - p);
    }
    let (mut low, mut high) = (0.0, 9.0);
    // As many halves as a float has bits.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        match above_half(middle) < p - 0.5 {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}

/// What lies between 0 and `x`, of `x` from 0 on: the density times `x + x^3 / 3 + x^5 / (3 * 5) + ..`, of which all
/// terms have one sign.
fn above_half(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    let mut divisor = 3.0;
    while term > sum * 1e-17 {
        term *= x * x / divisor;
        sum += term;
        divisor += 2.0;
    }
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with tables, and with Python's `statistics.NormalDist`.
    #[test]
    fn quantiles_are_those_of_tables() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.6, 0.253_347_103_135_799_8),
            (0.8, 0.841_621_233_572_914_2),
            (0.95, 1.644_853_626_951_472_7),
            (0.999, 3.090_232_306_167_813_5),
            (0.25, -0.674_489_750_196_081_7),
            (1e-9, -5.997_807_015_007_687),
        ] {
            let found = quantile(p);
            assert!(
                (found - expected).abs() < 1e-7_f64.min(1e-12 / p.min(1.0 - p)),
                "{p}: {found}"
            );
        }
    }
}
