//! Mixtures of experts as CUDA kernels.
//!
//! Nodes of MLX's graph cost the host more time than these kernels take for one token, so of few rows there are
//! three: the router's logits, what is inside the chosen experts, and their sum; both later ones find the experts
//! from the logits themselves. Rows of prompts are sorted by expert and multiplied in tiles, without the host
//! knowing which expert has how many.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::quant::Mode;
use mlx_core::{Array, Result};

use super::graph::Mixture;
use crate::Dtype;
use crate::arrays::{dtype, exactly};
use crate::block::graph::Weight;
use crate::cuda::{Compiled, dtype_option, has_kernels};
use crate::gated::Activation;
use crate::gated::cuda::activation_options;

/// Rows up to which each pair of a row and an expert reads the expert's matrices by itself.
const FEW: i32 = 32;
/// Experts that a token may have, and that there may be.
const MOST_TOP: usize = 16;
const MOST_EXPERTS: usize = 512;
/// Warps of a block where each works by itself.
const WARPS: u32 = 4;
/// Threads of a block of sums, and of the one that sorts.
const THREADS: u32 = 128;
const SORTING: u32 = 1024;
/// Logits that a warp makes.
const LOGITS: u32 = 4;
/// Pairs of a tile.
const ROWS: u32 = 128;
/// Blocks that a launch has in its second dimension.
const MOST_BLOCKS: i32 = 65535;

/// How a matrix is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Floats.
    Dense,
    /// Integers, with a scale and a bias a group.
    Affine {
        /// 4 or 8.
        bits: i32,
        /// 32, 64 or 128.
        group: i32,
    },
    /// mxfp4.
    Mxfp4,
}

impl Packing {
    /// Numbers of a row that are held together.
    fn unit(self) -> i32 {
        match self {
            Self::Dense => 8,
            Self::Affine { group, .. } => group,
            Self::Mxfp4 => 32,
        }
    }
}

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as its function")]
pub enum Part {
    Logits,
    FewInner,
    FewOuter,
    Routes,
    Sorted,
    ManyInner,
    ManyOuter,
    Sums,
}

/// A kernel and what its code depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Which one.
    pub part: Part,
    /// Of rows and results; not float32.
    pub dtype: Dtype,
    /// Of the matrices that it reads.
    pub packing: Packing,
    /// How many there are.
    pub experts: usize,
    /// How many a token has.
    pub top: usize,
    /// Whether shares are divided by their sum.
    pub renormalised: bool,
    /// Of the gate.
    pub activation: Activation,
    /// Whether an expert that all tokens have is added.
    pub shared: bool,
    /// Whether the matrices that it reads have biases.
    pub biases: bool,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        let threads = match self.part {
            Part::Sorted => SORTING,
            _ => THREADS,
        };
        let mut options = activation_options(self.activation);
        options.extend([
            dtype_option(self.dtype),
            format!("-DEXPERTS={}", self.experts),
            format!("-DTOP={}", self.top),
            format!("-DWARPS={WARPS}"),
            format!("-DROWS={ROWS}"),
        ]);
        match self.packing {
            Packing::Dense => options.push("-DDENSE".to_owned()),
            Packing::Affine { bits, group } => {
                options.extend([format!("-DBITS={bits}"), format!("-DGROUP={group}")]);
            }
            Packing::Mxfp4 => {
                options.extend(["-DBITS=4", "-DGROUP=32", "-DMXFP4"].map(str::to_owned))
            }
        }
        if self.renormalised {
            options.push("-DRENORMALISED".to_owned());
        }
        if self.shared {
            options.push("-DSHARED".to_owned());
        }
        if self.biases {
            options.push("-DBIASES".to_owned());
        }
        match self.part {
            Part::ManyInner => options.push("-DINNER".to_owned()),
            Part::ManyOuter => {}
            _ => options.push(format!("-DTHREADS={threads}")),
        }
        options
    }

    /// CUDA C++ that needs no header. Each kernel is a module of its own, since MLX looks at a module's whole code at
    /// every launch.
    pub fn source(&self) -> &'static str {
        match self.part {
            Part::Logits => crate::with_numbers!("cuda/weights.cuh", "cuda/logits.cu"),
            Part::FewInner => crate::with_numbers!(
                "../gated/activation.cuh",
                "cuda/weights.cuh",
                "../cuda/ordered.cuh",
                "cuda/route.cuh",
                "cuda/few_inner.cu"
            ),
            Part::FewOuter => {
                crate::with_numbers!(
                    "cuda/weights.cuh",
                    "../cuda/ordered.cuh",
                    "cuda/route.cuh",
                    "cuda/few_outer.cu"
                )
            }
            Part::Routes => {
                crate::with_numbers!("../cuda/ordered.cuh", "cuda/route.cuh", "cuda/routes.cu")
            }
            Part::Sorted => {
                crate::with_numbers!("../cuda/ordered.cuh", "cuda/route.cuh", "cuda/sorted.cu")
            }
            Part::ManyInner | Part::ManyOuter => crate::with_numbers!(
                "../gated/activation.cuh",
                "../cuda/tiles.cuh",
                "../attention/fragments.cuh",
                "cuda/weights.cuh",
                "cuda/many.cu"
            ),
            Part::Sums => crate::with_numbers!("cuda/sums.cu"),
        }
    }

    /// The function's name.
    fn name(&self) -> &'static str {
        match self.part {
            Part::Logits => "logits",
            Part::FewInner => "few_inner",
            Part::FewOuter => "few_outer",
            Part::Routes => "routes",
            Part::Sorted => "sorted",
            Part::ManyInner | Part::ManyOuter => "many",
            Part::Sums => "sums",
        }
    }

    /// A launch of it.
    ///
    /// # Safety
    /// As [`mlx_core::cuda::Kernel::launch`].
    unsafe fn launch(
        self,
        inputs: &[&Array],
        outputs: &[(&[i32], mlx_core::Dtype)],
        scalars: &[i32],
        launch: Launch,
    ) -> Result<Vec<Array>> {
        static COMPILED: Compiled<Variant> = Compiled::new();
        let kernel = COMPILED.get(self, self.name(), self.source(), Variant::options)?;
        let scalars: Vec<Scalar> = scalars.iter().copied().map(Scalar::Int).collect();
        // SAFETY: the caller vouches for it.
        unsafe { kernel.launch(inputs, outputs, &scalars, launch) }
    }
}

/// A stack of matrices, or one.
struct Matrices<'a> {
    packing: Packing,
    /// Words, scales and biases; of floats each the floats, of mxfp4 the last the scales.
    inputs: [&'a Array; 3],
}

impl<'a> Matrices<'a> {
    /// `None` for what the kernels lack, and unless it has `shape`, rows of floats of `dtype`.
    fn of(weight: Weight<'a>, shape: &[i32], dtype: mlx_core::Dtype) -> Option<Self> {
        let (&width, outer) = shape.split_last()?;
        let with_last = |n: i32| [outer, &[n]].concat();
        let (packing, inputs) = match weight {
            Weight::Dense(w) if w.shape() == shape && w.dtype() == dtype => {
                (Packing::Dense, [w, w, w])
            }
            Weight::Packed(w) => {
                let scheme = w.scheme;
                let scales = match (scheme.mode, scheme.bits, w.biases) {
                    (Mode::Affine, 4 | 8, Some(_)) => dtype,
                    (Mode::Mxfp4, 4, None) => mlx_core::Dtype::Uint8,
                    _ => return None,
                };
                let biases = w.biases.unwrap_or(w.scales);
                let words = i64::from(width) * i64::from(scheme.bits) / 32;
                let groups = with_last(width / scheme.group_size.max(1));
                let fits = scheme.is_supported()
                    && (w.weight.dtype(), w.weight.shape())
                        == (
                            mlx_core::Dtype::Uint32,
                            &with_last(i32::try_from(words).ok()?)[..],
                        )
                    && [w.scales, biases]
                        .iter()
                        .all(|a| (a.dtype(), a.shape()) == (scales, &groups[..]));
                if !fits {
                    return None;
                }
                let packing = match scheme.mode {
                    Mode::Affine => Packing::Affine {
                        bits: scheme.bits,
                        group: scheme.group_size,
                    },
                    _ => Packing::Mxfp4,
                };
                (packing, [w.weight, w.scales, biases])
            }
            _ => return None,
        };
        (width > 0 && width % packing.unit() == 0).then_some(Self { packing, inputs })
    }
}

/// A mixture that the kernels have, and the sizes of a pass.
struct Pass<'a> {
    x: &'a Array,
    router: Matrices<'a>,
    gate: Matrices<'a>,
    up: Matrices<'a>,
    down: Matrices<'a>,
    shared: Option<(&'a Array, &'a Array)>,
    /// Of router, gate, up and down.
    biases: Option<[&'a Array; 4]>,
    any: Variant,
    rows: i32,
    hidden: i32,
    width: i32,
}

/// See [`super::graph::mixture`].
pub(super) fn mixture(
    x: &Array,
    by: &Mixture<'_>,
    shared: Option<(&Array, &Array)>,
) -> Result<Option<Array>> {
    let plan = match has_kernels()? {
        true => Pass::of(x, by, shared),
        false => None,
    };
    match plan {
        Some(plan) if plan.rows <= FEW => plan.few().map(Some),
        Some(plan) => plan.many().map(Some),
        None => Ok(None),
    }
}

/// See [`super::graph::logits`].
pub(super) fn logits(x: &Array, weight: Weight<'_>) -> Result<Option<Array>> {
    let fitting = || {
        let &[1..=MOST_BLOCKS, width] = x.shape() else {
            return None;
        };
        let count = match weight {
            Weight::Dense(w) => w.dim(0),
            Weight::Packed(w) => w.weight.dim(0),
            Weight::Bf12(_) => return None,
        };
        let stack = Matrices::of(weight, &[count, width], x.dtype())?;
        let variant = Variant {
            part: Part::Logits,
            dtype: dtype(x.dtype()).filter(|d| *d != Dtype::F32)?,
            packing: stack.packing,
            experts: usize::try_from(count).ok()?,
            top: 1,
            renormalised: false,
            activation: Activation::Silu,
            shared: false,
            biases: false,
        };
        Some((stack, variant))
    };
    match has_kernels()?.then(fitting).flatten() {
        Some((stack, variant)) => launch_logits(x, &stack, None, variant).map(Some),
        None => Ok(None),
    }
}

/// The rows of `x` times the rows of `matrix`, `variant.experts` of them, and `bias`, if the variant has such.
fn launch_logits(
    x: &Array,
    matrix: &Matrices<'_>,
    bias: Option<&Array>,
    variant: Variant,
) -> Result<Array> {
    let (rows, count) = (x.dim(0), variant.experts as i32);
    let mut inputs = vec![x];
    inputs.extend(matrix.inputs.into_iter().chain(bias));
    let shape = [rows, count];
    let blocks = count.unsigned_abs().div_ceil(WARPS * LOGITS);
    let launch = Launch::new([blocks, rows.unsigned_abs(), 1], [32 * WARPS, 1, 1]);
    // SAFETY: the parameters are the kernel's. By `Matrices::of` it reads rows of one width, and it writes a logit an
    // expert for each row of `x`; a bias is one an expert; arrays are dense or copied.
    let made = unsafe {
        variant.launch(
            &inputs,
            &[(&shape, mlx_core::Dtype::Float32)],
            &[x.dim(1) / 8],
            launch,
        )
    }?;
    let [logits] = exactly(made);
    Ok(logits)
}

/// Whether the kernels have mixtures of such sizes: how many experts there are and a token has, and the features
/// outside and inside them.
pub fn fits(experts: usize, top: usize, widths: [usize; 2]) -> bool {
    (1..=MOST_TOP.min(experts)).contains(&top)
        && experts <= MOST_EXPERTS
        && widths.iter().all(|n| n.is_multiple_of(8))
}

impl<'a> Pass<'a> {
    fn of(x: &'a Array, by: &Mixture<'a>, shared: Option<(&'a Array, &'a Array)>) -> Option<Self> {
        let &[rows @ 1..=MOST_BLOCKS, hidden] = x.shape() else {
            return None;
        };
        let first = |weight: Weight<'_>| match weight {
            Weight::Dense(w) => Some(w.shape().to_vec()),
            Weight::Packed(w) => Some(w.weight.shape().to_vec()),
            Weight::Bf12(_) => None,
        };
        let &[count, width, _] = &first(by.gate)?[..] else {
            return None;
        };
        let (experts, dtype) = (usize::try_from(count).ok()?, x.dtype());
        let of_kernel = crate::arrays::dtype(dtype).filter(|d| *d != Dtype::F32)?;
        let pairs = rows.checked_mul(i32::try_from(by.top).ok()?)?;
        let stack = |weight, shape: &[i32]| Matrices::of(weight, shape, dtype);
        let (gate, up) = (
            stack(by.gate, &[count, width, hidden])?,
            stack(by.up, &[count, width, hidden])?,
        );
        let shared_fits = shared.is_none_or(|(out, gate)| {
            (out.dtype(), out.shape()) == (dtype, x.shape())
                && (gate.dtype(), gate.size()) == (mlx_core::Dtype::Float32, rows as usize)
        });
        let lengths: [&[i32]; 4] = [&[count], &[count, width], &[count, width], &[count, hidden]];
        let biases_fit = by.biases.is_none_or(|biases| {
            let mut all = biases.iter().zip(lengths);
            all.all(|(bias, length)| (bias.dtype(), bias.shape()) == (dtype, length))
        });
        let widths = [hidden, width].map(|n| n.unsigned_abs() as usize);
        let fits = fits(experts, by.top, widths)
            && gate.packing == up.packing
            && tiles(pairs, count) <= MOST_BLOCKS.unsigned_abs()
            && shared_fits
            && biases_fit;
        fits.then_some(Self {
            router: stack(by.router, &[count, hidden])?,
            down: stack(by.down, &[count, hidden, width])?,
            any: Variant {
                part: Part::Logits,
                dtype: of_kernel,
                packing: Packing::Dense,
                experts,
                top: by.top,
                renormalised: by.renormalised,
                activation: by.activation,
                shared: shared.is_some(),
                biases: by.biases.is_some(),
            },
            biases: by.biases,
            x,
            gate,
            up,
            shared,
            rows,
            hidden,
            width,
        })
    }

    /// A kernel that reads matrices packed like this.
    fn variant(&self, part: Part, packing: Packing) -> Variant {
        // What a kernel does not look at must not be compiled twice.
        let silu = Activation::Silu;
        let of = self.any;
        let (inner, outer) = (
            matches!(part, Part::FewInner | Part::ManyInner),
            matches!(part, Part::FewOuter | Part::Sums),
        );
        Variant {
            part,
            packing,
            activation: if inner { of.activation } else { silu },
            shared: outer && of.shared,
            biases: !matches!(part, Part::Routes | Part::Sorted | Part::ManyOuter) && of.biases,
            renormalised: matches!(part, Part::FewOuter | Part::Routes) && of.renormalised,
            top: if part == Part::Logits { 1 } else { of.top },
            ..of
        }
    }

    fn logits(&self) -> Result<Array> {
        let variant = self.variant(Part::Logits, self.router.packing);
        launch_logits(self.x, &self.router, self.bias(0), variant)
    }

    /// That of router, gate, up or down.
    fn bias(&self, of: usize) -> Option<&'a Array> {
        self.biases.map(|biases| biases[of])
    }

    /// What the last kernel takes of the expert that all tokens have; without one, arrays that it does not read.
    fn shared_or<'b>(&'b self, other: [&'b Array; 2]) -> [&'b Array; 2] {
        self.shared.map_or(other, |(out, gate)| [out, gate])
    }

    /// Of few rows.
    fn few(&self) -> Result<Array> {
        let (rows, dtype) = (self.rows.unsigned_abs(), self.x.dtype());
        let pairs = rows * self.any.top as u32;
        let logits = self.logits()?;
        let mut inputs = vec![self.x, &logits];
        inputs.extend(self.gate.inputs.iter().chain(&self.up.inputs));
        inputs.extend([self.bias(1), self.bias(2)].into_iter().flatten());
        let shape = [pairs as i32, self.width];
        let launch = |width: i32, count| {
            let blocks = width.unsigned_abs().div_ceil(WARPS);
            Launch::new([blocks, count, 1], [32 * WARPS, 1, 1])
        };
        let variant = self.variant(Part::FewInner, self.gate.packing);
        // SAFETY: the parameters are the kernel's. By `Pass::of` the matrices are those of `experts` experts, and what
        // it chooses is one of them; it writes a row of `width` numbers a pair.
        let made = unsafe {
            variant.launch(
                &inputs,
                &[(&shape, dtype)],
                &[self.hidden / 8, self.width],
                launch(self.width, pairs),
            )
        }?;
        let [inner] = exactly(made);
        let mut inputs = vec![&inner, &logits];
        inputs.extend(self.down.inputs.into_iter().chain(self.bias(3)));
        inputs.extend(self.shared_or([&inner, &logits]));
        let variant = self.variant(Part::FewOuter, self.down.packing);
        // SAFETY: as above; it writes a row of `hidden` numbers a token, and reads as many of `shared`.
        let made = unsafe {
            variant.launch(
                &inputs,
                &[(&[self.rows, self.hidden], dtype)],
                &[self.width / 8, self.hidden],
                launch(self.hidden, rows),
            )
        }?;
        let [sums] = exactly(made);
        Ok(sums)
    }

    /// Of many rows.
    fn many(&self) -> Result<Array> {
        let dtype = self.x.dtype();
        let logits = self.logits()?;
        let [chosen, shares] = self.routes(&logits)?;
        let [order, tiles] = self.sorted(&chosen)?;
        let mut inputs = vec![self.x, &order, &tiles];
        inputs.extend(self.gate.inputs.iter().chain(&self.up.inputs));
        inputs.extend([self.bias(1), self.bias(2)].into_iter().flatten());
        let inner = self.product(Part::ManyInner, &inputs, [self.hidden, self.width])?;
        let mut inputs = vec![&inner, &order, &tiles];
        inputs.extend(self.down.inputs);
        let outputs = self.product(Part::ManyOuter, &inputs, [self.width, self.hidden])?;
        let mut inputs = vec![&outputs, &shares];
        inputs.extend(self.bias(3).into_iter().flat_map(|bias| [&chosen, bias]));
        inputs.extend(self.shared_or([&outputs, &shares]));
        let eights = self.hidden / 8;
        let blocks = [
            eights.unsigned_abs().div_ceil(THREADS),
            self.rows.unsigned_abs(),
            1,
        ];
        let variant = self.variant(Part::Sums, Packing::Dense);
        // SAFETY: the parameters are the kernel's. It reads a row a pair, a share each and a bias of its expert, which
        // `routes` has chosen, and a row of `shared` a token, and writes a row a token, all of `hidden` numbers.
        let made = unsafe {
            variant.launch(
                &inputs,
                &[(&[self.rows, self.hidden], dtype)],
                &[eights],
                Launch::new(blocks, [THREADS, 1, 1]),
            )
        }?;
        let [sums] = exactly(made);
        Ok(sums)
    }

    /// The experts of each row and their shares.
    fn routes(&self, logits: &Array) -> Result<[Array; 2]> {
        let shape = [self.rows, self.any.top as i32];
        let blocks = self.rows.unsigned_abs().div_ceil(WARPS);
        let variant = self.variant(Part::Routes, Packing::Dense);
        // SAFETY: the parameters are the kernel's. It reads the logits of `rows` rows, and writes `top` numbers to each
        // output for each.
        let made = unsafe {
            variant.launch(
                &[logits],
                &[
                    (&shape, mlx_core::Dtype::Int32),
                    (&shape, mlx_core::Dtype::Float32),
                ],
                &[self.rows],
                Launch::new([blocks, 1, 1], [32 * WARPS, 1, 1]),
            )
        }?;
        Ok(exactly(made))
    }

    /// Pairs by expert, and the tiles.
    fn sorted(&self, chosen: &Array) -> Result<[Array; 2]> {
        let pairs = self.rows * self.any.top as i32;
        let most = tiles(pairs, self.any.experts as i32) as i32;
        let variant = self.variant(Part::Sorted, Packing::Dense);
        // SAFETY: the parameters are the kernel's. It reads an expert a pair, which are experts, since `routes` made
        // them, writes the place of each pair, and `most` tiles, which is as many as there can be.
        let made = unsafe {
            variant.launch(
                &[chosen],
                &[
                    (&[pairs], mlx_core::Dtype::Int32),
                    (&[most, 3], mlx_core::Dtype::Int32),
                ],
                &[pairs, most],
                Launch::new([1, 1, 1], [SORTING, 1, 1]),
            )
        }?;
        Ok(exactly(made))
    }

    /// The rows of all pairs, by expert or each at its place.
    fn product(&self, part: Part, inputs: &[&Array], [depth, width]: [i32; 2]) -> Result<Array> {
        let pairs = self.rows * self.any.top as i32;
        let (packing, columns) = match part {
            Part::ManyInner => (self.gate.packing, 64),
            _ => (self.down.packing, 128),
        };
        let blocks = [
            width.unsigned_abs().div_ceil(columns),
            tiles(pairs, self.any.experts as i32),
            1,
        ];
        let launch = Launch {
            shared_memory: SHARED_MEMORY,
            ..Launch::new(blocks, [256, 1, 1])
        };
        let variant = self.variant(part, packing);
        // SAFETY: the parameters are the kernel's. By `Pass::of` the matrices are those of `experts` experts with rows
        // of `depth` numbers, of which tiles and order name ones that are there; it writes a row a pair.
        let made = unsafe {
            let outputs = [(&[pairs, width][..], self.x.dtype())];
            variant.launch(inputs, &outputs, &[depth, width], launch)
        }?;
        let [made] = exactly(made);
        Ok(made)
    }
}

/// Bytes of a block's shared memory: three stages of 64 numbers of 128 rows of both factors.
pub const SHARED_MEMORY: u32 = 3 * 2 * 128 * ROWS;

/// Tiles that there can be.
fn tiles(pairs: i32, experts: i32) -> u32 {
    pairs.unsigned_abs() / ROWS + experts.unsigned_abs().min(pairs.unsigned_abs())
}
