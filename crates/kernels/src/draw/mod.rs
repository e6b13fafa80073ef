//! A token at random: from logits, through the filters, to an index.

pub mod cuda;
mod filters;
pub(crate) mod graph;
mod passes;
mod repeats;
mod row;
mod slot;

pub use filters::{Filters, Xtc};
pub use repeats::common_with_end;
pub use row::{Changes, Row};
pub use slot::{Dry, Stages};

use crate::{Cpu, Result, View};
use filters::Left;

/// Draws the index of one of `logits`, a matrix of one row. `uniform` is from 0 to 1: it decides. `None`
/// where one of them is not a number, or the largest is not finite: then they are no odds.
///
/// # Errors
/// When `logits` is empty or has several rows.
pub fn draw(
    cpu: &Cpu,
    logits: View<'_>,
    filters: &Filters<'_>,
    uniform: f64,
) -> Result<Option<usize>> {
    Ok(Row::read(cpu, logits)?.draw(filters, uniform))
}

impl Row<'_> {
    /// See [`draw`]. What the row has been through is what the filters begin with; what they leave out may be gone
    /// from it.
    pub fn draw(&mut self, filters: &Filters<'_>, uniform: f64) -> Option<usize> {
        if !self.max().is_finite() {
            return None;
        }
        let mut temperature = filters.temperature;
        if filters.temperature_first && temperature != 1.0 {
            self.divide(temperature);
            temperature = 1.0;
            if !self.max().is_finite() {
                return None;
            }
        }
        match self.filter(filters) {
            Left::Row => self.draw_from_all(temperature, uniform),
            Left::Few(few) => {
                let max = few.iter().map(|&i| self.values()[i]);
                let max = max.fold(f32::NEG_INFINITY, f32::max);
                let weight = |&i: &usize| f64::from((self.values()[i] - max) / temperature).exp();
                let weights: Vec<f64> = few.iter().map(weight).collect();
                few.get(pick(&weights, uniform)).copied()
            }
        }
    }

    /// Indices that the filters leave, in ascending order, for who wants to know them. Empty where the logits are no
    /// odds.
    pub fn kept(&mut self, filters: &Filters<'_>) -> Vec<usize> {
        if !self.max().is_finite() {
            return Vec::new();
        }
        if filters.temperature_first {
            self.divide(filters.temperature);
        }
        match self.filter(filters) {
            Left::Row => {
                let values = self.values().iter().enumerate();
                let kept = values.filter(|(_, x)| **x > f32::NEG_INFINITY);
                kept.map(|(i, _)| i).collect()
            }
            Left::Few(mut few) => {
                few.sort_unstable();
                few
            }
        }
    }

    fn divide(&mut self, temperature: f32) {
        let divided: Result<(), std::convert::Infallible> = self.rewrite(|values| {
            for x in values {
                *x /= temperature;
            }
            Ok(())
        });
        let Ok(()) = divided;
    }

    /// The most probable first, as of a list.
    fn draw_from_all(&self, temperature: f32, uniform: f64) -> Option<usize> {
        let weights = self.weights(temperature);
        let target = uniform * weights.total;
        self.nearest_reaching(self.max(), target, &weights.each, weights.total)
            .or_else(|| self.argmax())
    }
}

/// The place in `weights` where their running sum passes `uniform` times all of it.
fn pick(weights: &[f64], uniform: f64) -> usize {
    let mut left = uniform * weights.iter().sum::<f64>();
    for (i, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return i;
        }
    }
    // Rounding, or a uniform number of 1: the last that can be drawn at all.
    weights
        .iter()
        .rposition(|&weight| weight > 0.0)
        .unwrap_or(0)
}
