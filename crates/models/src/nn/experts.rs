//! A mixture of experts: a router chooses a few for each token.

use kernels::graph::{
    self, Activation, AllExperts, Columns, Gated, Linear as KernelLinear, Shared,
};
use mlx_core::{Array, Dtype, ops};

use super::stacked::Matrices;
use super::{GatedMlp, Linear, RmsNorm};
use crate::Result;
use crate::weights::Source;

/// Tokens times experts of each from which on rows are sorted by expert, as in mlx-lm: a matrix is then read
/// once for all rows that have it.
const SORTED: i32 = 64;

/// The sum over the likeliest experts of a token, each times its share.
pub(crate) struct Experts {
    router: Linear,
    /// Of what the router sees, in float32, where that is not what the experts see.
    router_norm: Option<RmsNorm>,
    router_scale: f64,
    top: i32,
    renormalised: bool,
    /// What the share of each is multiplied by in the end: the numbers, and as an array, float32 `[count]`.
    factors: Option<(Vec<f32>, Array)>,
    gate: Matrices,
    up: Matrices,
    down: Matrices,
    activation: Activation,
    /// Features inside an expert, and outside.
    each: [usize; 2],
    /// The gate of an expert that every token has, and that expert.
    shared: Option<(Linear, GatedMlp)>,
}

impl Experts {
    pub(crate) fn load(source: &Source<'_>, experts: &arch::Experts<String>) -> Result<Self> {
        let shared = experts.shared.as_ref().map(|shared| {
            let gate = Linear::as_stored(source, &shared.gate)?;
            Ok::<_, crate::Error>((gate, GatedMlp::load(source, &shared.mlp)?))
        });
        let each = &experts.each;
        let matrices = |stack| Matrices::load(source, stack);
        Ok(Self {
            router: Linear::as_stored(source, &experts.router)?,
            router_norm: match &experts.router_norm {
                Some(norm) => Some(RmsNorm::load(source, norm)?.in_float32()?),
                None => None,
            },
            router_scale: experts.router_scale,
            top: experts.top as i32,
            renormalised: experts.renormalised,
            factors: match &experts.share_scales {
                Some(name) => {
                    let factors = source.vector(name, 1.0)?.cast(Dtype::Float32)?;
                    Some((factors.to_vec::<f32>()?, factors))
                }
                None => None,
            },
            gate: matrices(&each.gate)?,
            up: matrices(&each.up)?,
            down: matrices(&each.down)?,
            each: [each.gate.rows, each.down.rows],
            activation: super::mlp::activation(each.activation),
            shared: shared.transpose()?,
        })
    }

    /// `x [L, hidden]` to the same shape; the router sees `seen [L, hidden]`.
    pub(super) fn forward(&self, x: &Array, seen: &Array) -> Result<Array> {
        let shared = self.shared.as_ref().map(|(gate, mlp)| {
            Ok::<_, crate::Error>((mlp.forward(x, [None, None])?, gate.forward_in_float32(x)?))
        });
        let shared = shared.transpose()?;
        let added = shared.as_ref().map(|(out, gate)| (out, gate));
        if self.routes_plainly()
            && let Some(sum) = self.by_kernels(x, added)?
        {
            return Ok(sum);
        }
        let (chosen, shares) = self.route(seen)?;
        let y = self.outputs(x, &chosen)?.cast(Dtype::Float32)?;
        let mut sum = ops::sum(&ops::mul(&y, &shares.expand_dims(-1)?)?, &[1], false)?;
        if let Some((out, gate)) = &shared {
            let gate = ops::sigmoid(gate)?;
            let out = out.cast(Dtype::Float32)?;
            sum = ops::add(&sum, &ops::mul(&out, &gate)?)?;
        }
        Ok(sum.cast(x.dtype())?)
    }

    /// Whether the router sees what the experts see, and its shares are what counts.
    fn routes_plainly(&self) -> bool {
        self.router_norm.is_none() && self.factors.is_none()
    }

    /// By kernels that want the matrices in one array; `None` where they are apart, or for what those lack.
    fn by_kernels(&self, x: &Array, shared: Option<(&Array, &Array)>) -> Result<Option<Array>> {
        let [Some(gate), Some(up), Some(down)] =
            [&self.gate, &self.up, &self.down].map(Matrices::together)
        else {
            return Ok(None);
        };
        let biases = [
            self.router.bias(),
            self.gate.biases(),
            self.up.biases(),
            self.down.biases(),
        ];
        let biases = match biases {
            [None, None, None, None] => None,
            [Some(router), Some(gate), Some(up), Some(down)] => Some([router, gate, up, down]),
            _ => return Ok(None),
        };
        let by = graph::Mixture {
            router: self.router.matrix().as_weight(),
            top: self.top.unsigned_abs() as usize,
            renormalised: self.renormalised,
            gate: gate.as_weight(),
            up: up.as_weight(),
            down: down.as_weight(),
            biases,
            activation: self.activation,
        };
        Ok(graph::mixture(x, &by, shared)?)
    }

    /// The experts of each row of `x [L, hidden]`, uint32 `[L, top]`, and their shares, float32 `[L, top]`.
    fn route(&self, x: &Array) -> Result<(Array, Array)> {
        let mut logits = match &self.router_norm {
            Some(norm) => {
                let normed = norm.forward(&x.cast(Dtype::Float32)?)?;
                self.router.forward_in_float32(&normed)?
            }
            None => self.router.forward_in_float32(x)?,
        };
        if self.router_scale != 1.0 {
            logits = ops::mul(&logits, &Array::scalar(self.router_scale as f32)?)?;
        }
        let shares = ops::softmax(&logits, -1, true)?;
        let order = ops::argpartition(&ops::neg(&shares)?, self.top - 1, -1)?;
        let chosen = order.slice(&[0, 0], &[x.dim(0), self.top])?;
        let shares = ops::take_along_axis(&shares, &chosen, -1)?;
        let shares = match self.renormalised {
            true => ops::div(&shares, &ops::sum(&shares, &[-1], true)?)?,
            false => shares,
        };
        match &self.factors {
            Some((_, factors)) => {
                let factors = ops::take(factors, &chosen, 0)?;
                Ok((chosen, ops::mul(&shares, &factors)?))
            }
            None => Ok((chosen, shares)),
        }
    }

    /// What the `chosen [L, top]` experts make of the rows of `x [L, hidden]`: `[L, top, hidden]`.
    fn outputs(&self, x: &Array, chosen: &Array) -> Result<Array> {
        let (length, hidden) = (x.dim(0), x.dim(1));
        let pairs = length * self.top;
        let whole = [length, self.top, hidden];
        if pairs < SORTED {
            let y = self.mlps(&x.reshape(&[length, 1, 1, hidden])?, chosen, false)?;
            return Ok(y.reshape(&whole)?);
        }
        let chosen = chosen.reshape(&[-1])?;
        let order = ops::argsort(&chosen, -1)?;
        let rows: Vec<i32> = (0..pairs).map(|pair| pair / self.top).collect();
        let rows = ops::take(&Array::from_slice(&rows, &[pairs])?, &order, 0)?;
        let x = ops::take(x, &rows, 0)?.expand_dims(1)?;
        let y = self.mlps(&x, &ops::take(&chosen, &order, 0)?, true)?;
        let back = ops::argsort(&order, -1)?;
        Ok(ops::take(&y.reshape(&[pairs, hidden])?, &back, 0)?.reshape(&whole)?)
    }

    /// Rows `x [.., 1, hidden]` through the experts that `chosen` names: `[chosen.., 1, hidden]`.
    fn mlps(&self, x: &Array, chosen: &Array, sorted: bool) -> Result<Array> {
        let product = |m: &Matrices, x: &Array| m.gathered(x, chosen, sorted);
        let [gate, up] = [product(&self.gate, x)?, product(&self.up, x)?];
        let inner = graph::gated(self.activation, &Columns::all(gate), &Columns::all(up))?;
        product(&self.down, &inner.cast(x.dtype())?)
    }

    /// Makes one array of matrices that are held by themselves.
    pub(super) fn stack(&self) -> Result<()> {
        let all = [&self.gate, &self.up, &self.down];
        all.into_iter().try_for_each(|m| m.stacked().map(|_| ()))
    }

    /// For operations that have it in them.
    pub(super) fn as_one(
        &self,
    ) -> graph::Experts<KernelLinear<'_>, graph::Norm<'_>, AllExperts<'_>> {
        let gated = |maps| gated(maps, self.activation);
        let matrices = [&self.gate, &self.up, &self.down];
        let [gates, ups, downs] = matrices.map(Matrices::as_linears);
        let each = gates.into_iter().zip(ups).zip(downs);
        let stacked = match matrices.map(Matrices::as_linear) {
            [Some(gate), Some(up), Some(down)] => Some(gated([gate, up, down])),
            _ => None,
        };
        let shared = self.shared.as_ref().map(|(gate, mlp)| Shared {
            gate: gate.as_linear(),
            mlp: mlp.as_one(),
        });
        graph::Experts {
            router: self.router.as_linear(),
            router_norm: self.router_norm.as_ref().map(RmsNorm::as_norm),
            router_scale: self.router_scale as f32,
            top: self.top.unsigned_abs() as usize,
            renormalised: self.renormalised,
            each: AllExperts {
                each: each
                    .map(|((gate, up), down)| gated([gate, up, down]))
                    .collect(),
                stacked,
                factors: self.factors.as_ref().map_or(&[], |(factors, _)| factors),
            },
            shared,
        }
    }

    /// The linear maps that all rows go through.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let shared = self.shared.iter();
        let shared = shared.flat_map(|(gate, mlp)| [gate].into_iter().chain(mlp.linears()));
        [&self.router].into_iter().chain(shared).collect()
    }

    /// What the experts make of a row, in numbers, and as much again between the products.
    pub(super) fn numbers_a_row(&self) -> usize {
        let [inner, hidden] = self.each;
        2 * self.top.unsigned_abs() as usize * (2 * inner + hidden)
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.router.arrays();
        for matrices in [&self.gate, &self.up, &self.down] {
            arrays.extend(matrices.arrays());
        }
        arrays.extend(self.router_norm.iter().flat_map(RmsNorm::arrays));
        arrays.extend(self.factors.iter().map(|(_, factors)| factors));
        if let Some((gate, mlp)) = &self.shared {
            arrays.extend(gate.arrays());
            arrays.extend(mlp.arrays());
        }
        arrays
    }
}

/// An expert of its gate, its other half and what is behind them.
fn gated(
    [gate, up, down]: [KernelLinear<'_>; 3],
    activation: Activation,
) -> Gated<KernelLinear<'_>> {
    Gated {
        gate,
        up,
        down,
        activation,
        cut: None,
    }
}
