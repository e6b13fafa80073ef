//! From the hidden states of a text's tokens to one vector, in the modes of sentence-transformers' `Pooling`.

/// How the states are made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// Their mean.
    Mean,
    /// Their sum over the root of their number.
    MeanOfRoot,
    /// Their mean, each weighted with its position from 1 on.
    Weighted,
    /// Of each feature the largest.
    Max,
}

impl Pooling {
    /// The mode that a configuration calls so.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "cls" => Self::First,
            "lasttoken" => Self::Last,
            "mean" => Self::Mean,
            "mean_sqrt_len_tokens" => Self::MeanOfRoot,
            "weightedmean" => Self::Weighted,
            "max" => Self::Max,
            _ => return None,
        })
    }
}

/// States as they come, a token at a time. Sums are in float64, in the order of the tokens.
pub(crate) struct Pool {
    pooling: Pooling,
    value: Vec<f64>,
    count: usize,
}

impl Pool {
    pub(crate) fn new(pooling: Pooling) -> Self {
        Self {
            pooling,
            value: Vec::new(),
            count: 0,
        }
    }

    /// The next token's state; all have one length.
    pub(crate) fn add(&mut self, state: &[f32]) {
        self.count += 1;
        let weight = match self.pooling {
            Pooling::Weighted => self.count as f64,
            _ => 1.0,
        };
        let new = state.iter().map(|x| f64::from(*x) * weight);
        if self.count == 1 {
            self.value = new.collect();
            return;
        }
        for (value, new) in self.value.iter_mut().zip(new) {
            match self.pooling {
                Pooling::First => {}
                Pooling::Last => *value = new,
                Pooling::Max => *value = value.max(new),
                Pooling::Mean | Pooling::MeanOfRoot | Pooling::Weighted => *value += new,
            }
        }
    }

    /// The one vector; nothing of no token.
    pub(crate) fn finish(self) -> Vec<f32> {
        let count = self.count as f64;
        let share = match self.pooling {
            Pooling::First | Pooling::Last | Pooling::Max => 1.0,
            Pooling::Mean => count,
            Pooling::MeanOfRoot => count.sqrt(),
            Pooling::Weighted => count * (count + 1.0) / 2.0,
        };
        self.value.iter().map(|x| (x / share) as f32).collect()
    }
}
