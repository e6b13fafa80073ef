//! Gated delta nets as CUDA kernels: one launch for few rows, three for many.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Result};

use super::chunks::LENGTH;
use super::graph::{Entered, Made, Net, Remembered};
use crate::Dtype;
use crate::arrays::{dtype, exactly};
use crate::cuda::{Compiled, dtype_option, has_kernels};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = crate::with_numbers!("net.cu");

/// Rows that are one launch.
const FEW: i32 = 16;
/// Columns of a block of many rows.
const COLS: usize = 32;
/// Rows that such a block has in shared memory, twice.
const TOKENS: usize = 16;

/// What the code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Width of a query, and of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Positions that the convolution sees.
    pub width: usize,
    /// Whether what comes in has the columns of each key head together.
    pub by_key_head: bool,
    /// Whether it is for few rows.
    pub few: bool,
    /// Of what comes in and out.
    pub dtype: Dtype,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![
            dtype_option(self.dtype),
            format!("-DKEY_DIM={}", self.key_dim),
            format!("-DVALUE_DIM={}", self.value_dim),
            format!("-DWIDTH={}", self.width),
            format!("-DCOLS={}", self.cols()),
        ];
        if self.few {
            options.push("-DFEW".to_owned());
        }
        if self.by_key_head {
            options.push("-DBY_KEY_HEAD".to_owned());
        }
        options
    }

    fn cols(&self) -> usize {
        if self.few { self.value_dim } else { COLS }
    }

    fn threads(&self) -> u32 {
        4 * self.cols() as u32
    }

    /// Bytes of two chunks of rows: queries, keys, values and four numbers.
    fn shared_memory(&self) -> u32 {
        (2 * TOKENS * (2 * self.key_dim + self.cols() + 4) * 4) as u32
    }
}

/// Whether there are kernels for nets with keys and values of these widths.
pub fn fits([key_dim, value_dim]: [usize; 2]) -> bool {
    [key_dim, value_dim]
        .iter()
        .all(|dim| matches!(dim, 32 | 64 | 96 | 128))
}

/// See [`super::graph::delta_net`]; `None` for what the kernels lack.
pub(super) fn delta_net(
    entered: &Entered<'_>,
    net: &Net<'_>,
    before: Option<&Remembered>,
    position: i32,
) -> Result<Option<Made>> {
    let (sizes, parts) = (net.sizes, entered.parts());
    let mixed = parts[0].array();
    let [rows, _] = parts[0].rows();
    let number = mixed.dtype();
    let alike = |array: &Array| array.dtype() == number;
    let fits = fits([sizes.key_dim, sizes.value_dim])
        && (2..=8).contains(&sizes.width)
        && rows > 0
        && parts
            .iter()
            .all(|part| part.rows()[0] == rows && alike(part.array()))
        && before.is_none_or(|state| alike(&state.tail));
    let (Some(dtype), true) = (dtype(number), fits && has_kernels()?) else {
        return Ok(None);
    };
    let aligned = match (position + rows) / LENGTH * LENGTH - position {
        inner if rows > 1 && inner > 0 => Some(inner),
        _ => None,
    };
    let inner = aligned.filter(|tokens| *tokens < rows);
    let few = rows <= FEW && inner.is_none();
    let variant = Variant {
        key_dim: sizes.key_dim,
        value_dim: sizes.value_dim,
        width: sizes.width,
        by_key_head: entered.is_by_key_head(),
        few,
        dtype,
    };
    let int = |n: usize| Scalar::Int(i32::try_from(n).unwrap_or(i32::MAX));
    let heads = [int(sizes.heads), int(sizes.key_heads)];
    let places = parts.map(|part| [part.start(), part.rows()[1]]);
    let places: Vec<Scalar> = places.iter().flatten().copied().map(Scalar::Int).collect();
    let has_state = Scalar::Int(i32::from(before.is_some()));
    let eps = Scalar::Float(net.norm.eps);
    let [tail_shape, state_shape] = net.shapes();
    let out_shape = [rows, (sizes.heads * sizes.value_dim) as i32];
    // Places that are not read get an array that is there.
    let (tail, state) = match before {
        Some(state) => (&state.tail, &state.matrices),
        None => (mixed, net.filter),
    };
    let weights = [net.filter, net.decay, net.step];
    let entered: Vec<&Array> = parts
        .iter()
        .map(|part| part.array())
        .chain(weights)
        .collect();
    let float = mlx_core::Dtype::Float32;
    let (blocks, rows_of) = (sizes.heads as u32, rows.unsigned_abs());
    let threads = variant.threads();
    if few {
        static COMPILED: Compiled<Variant> = Compiled::new();
        let kernel = COMPILED.get(variant, "delta_few", SOURCE, Variant::options)?;
        let inputs = [&entered[..], &[tail, state, net.norm.weight]].concat();
        let outputs = [
            (&out_shape[..], number),
            (&tail_shape[..], number),
            (&state_shape[..], float),
        ];
        let sizes = [&[Scalar::Int(rows)], &heads[..], &[has_state, eps], &places].concat();
        let launch = Launch::new([blocks, 1, 1], [threads, 1, 1]);
        // SAFETY: the parameters are the kernel's, compiled for these widths. It reads `rows` rows within the arrays
        // of what comes in, which are dense or copied, and weights and states of the net's sizes, which
        // `super::graph::delta_net` has checked; it writes as many rows, and a state.
        let made = unsafe { kernel.launch(&inputs, &outputs, &sizes, launch) }?;
        let [out, tail, matrices] = exactly(made);
        let latest = Remembered { tail, matrices };
        return Ok(Some(Made {
            out,
            aligned: aligned.map(|tokens| (tokens, latest.clone())),
            latest,
        }));
    }
    static PREPARE: Compiled<Variant> = Compiled::new();
    static RULE: Compiled<Variant> = Compiled::new();
    static NORM: Compiled<Variant> = Compiled::new();
    let kernel =
        |compiled: &Compiled<Variant>, name| compiled.get(variant, name, SOURCE, Variant::options);
    let inputs = [&entered[..], &[tail]].concat();
    let outputs = [
        (&[rows, sizes.channels() as i32][..], float),
        (&[rows, sizes.heads as i32, 4][..], float),
    ];
    let scalars = [&heads[..], &[has_state], &places].concat();
    let launch = Launch::new([rows_of, 1, 1], [256, 1, 1]);
    // SAFETY: as above; it writes a row of channels and of numbers of heads for each row.
    let made =
        unsafe { kernel(&PREPARE, "delta_prepare")?.launch(&inputs, &outputs, &scalars, launch) }?;
    let [brought, told] = exactly(made);

    let at = Scalar::Int(inner.unwrap_or(0));
    // What is not written is no more than an address.
    let (inner_tail, inner_state) = match inner {
        Some(_) => (&tail_shape[..], &state_shape[..]),
        None => (&[1][..], &[1][..]),
    };
    let outputs = [
        (&out_shape[..], float),
        (&state_shape[..], float),
        (inner_state, float),
    ];
    let scalars = [&[Scalar::Int(rows)], &heads[..], &[has_state, at]].concat();
    let launch = Launch {
        shared_memory: variant.shared_memory(),
        ..Launch::new(
            [blocks, (sizes.value_dim / COLS) as u32, 1],
            [threads, 1, 1],
        )
    };
    let inputs = [&brought, &told, state];
    // SAFETY: as above, on what was made for each row; it writes what each row reads, and a state, and one more if
    // there are rows behind which it is wanted.
    let made = unsafe { kernel(&RULE, "delta_many")?.launch(&inputs, &outputs, &scalars, launch) }?;
    let [read, matrices, aligned_matrices] = exactly(made);

    let inputs = [&read, mixed, parts[1].array(), tail, net.norm.weight];
    let outputs = [
        (&out_shape[..], number),
        (&tail_shape[..], number),
        (inner_tail, number),
    ];
    let scalars = [
        &[Scalar::Int(rows)],
        &heads[..],
        &[has_state, at, eps],
        &places[..4],
    ]
    .concat();
    let warps = rows_of.saturating_mul(blocks);
    let launch = Launch::new([warps.div_ceil(4), 1, 1], [128, 1, 1]);
    // SAFETY: as above; it writes rows, and tails.
    let made = unsafe { kernel(&NORM, "delta_norm")?.launch(&inputs, &outputs, &scalars, launch) }?;
    let [out, tail, aligned_tail] = exactly(made);
    let latest = Remembered { tail, matrices };
    let at_inner = Remembered {
        tail: aligned_tail,
        matrices: aligned_matrices,
    };
    Ok(Some(Made {
        out,
        aligned: match (inner, aligned) {
            (Some(tokens), _) => Some((tokens, at_inner)),
            (None, aligned) => aligned.map(|tokens| (tokens, latest.clone())),
        },
        latest,
    }))
}
