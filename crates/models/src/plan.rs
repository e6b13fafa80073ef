//! What runs the steps of a forward pass on a device, and why where there is something faster: nothing falls
//! to a slower way silently.

mod listed;

use std::fmt;

use arch::{Attention, Delta, Experts, Gated, Layer, Mlp, Mode, Model};
use kernels::decode::{Packing, Sizes, Target};
use mlx_core::{DeviceKind, Dtype};

use crate::weights::{Manifest, Stored};

/// A part of a forward pass and what runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The part, such as `a token`.
    pub part: &'static str,
    /// What runs it, such as `one kernel`.
    pub by: &'static str,
    /// Why nothing faster does, where for other models something would.
    pub slower: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.by)?;
        match &self.slower {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// How matrices are stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    /// Each way that layers have.
    pub(crate) layers: Vec<Stored>,
    pub(crate) embedding: Stored,
    pub(crate) head: Stored,
    /// Whether floats are held in 12 bits an element.
    pub(crate) in_12_bits: bool,
}

impl Storage {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let places = &manifest.places;
        let at = |path: &str| {
            manifest
                .matrices
                .get(path)
                .copied()
                .unwrap_or(Stored::Dense)
        };
        let mut layers = Vec::new();
        for (path, stored) in &manifest.matrices {
            let is_end = *path == places.embedding || Some(path) == places.head.as_ref();
            if !is_end && !layers.contains(stored) {
                layers.push(*stored);
            }
        }
        let embedding = at(&places.embedding);
        Self {
            layers,
            embedding,
            head: places.head.as_deref().map_or(embedding, at),
            in_12_bits: false,
        }
    }
}

/// What a GPU is taken for that nobody has seen: an H100.
pub(crate) const TARGET: Target = Target {
    multiprocessors: 132,
    shared_memory: 227 << 10,
};

/// What runs a model on a device of this kind, with activations of `dtype`. `gpu` is the one of CUDA, if our
/// kernels run on such.
pub(crate) fn steps(
    model: &Model<String>,
    storage: &Storage,
    dtype: Dtype,
    device: DeviceKind,
    gpu: Option<Target>,
) -> Vec<Step> {
    let step = |part, [fast, slow]: [&'static str; 2], slower: Option<String>| Step {
        part,
        by: if slower.is_none() { fast } else { slow },
        slower,
    };
    match device {
        DeviceKind::Cpu => vec![step(
            "layers",
            ["one operation for all", "single operations"],
            one_operation(dtype),
        )],
        DeviceKind::Cuda => {
            let mut steps = vec![
                step(
                    "a token",
                    ["one kernel", "single operations"],
                    one_kernel(model, storage, dtype, gpu),
                ),
                step(
                    "attention of prompts",
                    ["our kernel", "MLX's"],
                    our_attention(model, dtype, gpu),
                ),
            ];
            if let Some(delta) = model.layers.iter().find_map(Layer::delta) {
                let by = ["our kernels", "single operations"];
                steps.push(step("gated delta nets", by, our_delta(delta, gpu)));
            }
            if model.bidirectional {
                // It is never asked for a token alone.
                steps.remove(0);
            }
            if model.streams.is_some() {
                let why = Some(STREAMS.to_owned());
                steps.push(step("streams of layers", ["", "MLX's operations"], why));
            }
            if sparse(model) {
                let by = ["our kernels", "MLX's products, of unpacked matrices"];
                steps.push(step("experts", by, our_experts(model, storage, dtype, gpu)));
            }
            steps
        }
        DeviceKind::Metal => vec![step(
            "attention",
            ["MLX's kernel", "single operations, all scores in memory"],
            mlx_attention(model),
        )],
    }
}

/// Why a processor does not run all layers as one operation.
fn one_operation(dtype: Dtype) -> Option<String> {
    match dtype {
        Dtype::Bfloat16 | Dtype::Float32 => None,
        other => Some(format!(
            "activations are {other}, whose sums have to be held inside its range"
        )),
    }
}

/// Why a GPU does not run a token as one kernel: neither that for blocks that are alike nor the one for others.
fn one_kernel(
    model: &Model<String>,
    storage: &Storage,
    dtype: Dtype,
    gpu: Option<Target>,
) -> Option<String> {
    if gpu.is_none() {
        return Some(OLD_GPU.to_owned());
    }
    kernel(model, storage, dtype, gpu).err()?;
    listed::unlisted(model, storage, dtype)
}

/// Sequences of which a GPU runs a token each as one kernel.
pub(crate) fn tokens_of_kernel(
    model: &Model<String>,
    storage: &Storage,
    dtype: Dtype,
    gpu: Option<Target>,
) -> usize {
    match kernel(model, storage, dtype, gpu) {
        Ok((sizes, gpu)) => sizes.together(gpu),
        Err(_) => 1,
    }
}

/// What the kernel of a token would be made for, or why it cannot be.
fn kernel(
    model: &Model<String>,
    storage: &Storage,
    dtype: Dtype,
    gpu: Option<Target>,
) -> Result<(Sizes, Target), String> {
    let gpu = gpu.ok_or(OLD_GPU)?;
    if dtype != Dtype::Bfloat16 {
        return Err(format!("activations are {dtype} and not bfloat16"));
    }
    let [layers] = storage.layers[..] else {
        return Err("matrices of layers are stored in several ways".to_owned());
    };
    let packed = |stored| match (stored, storage.in_12_bits) {
        (Stored::Dense, true) => Ok(Packing::Bf12),
        _ => packing(stored),
    };
    let packings = [
        packed(layers)?,
        packed(storage.embedding)?,
        packed(storage.head)?,
    ];
    if sparse(model) {
        return Err("there are experts".to_owned());
    }
    if let Some(why) = model.layers.iter().find_map(not_in_kernel) {
        return Err(why.to_owned());
    }
    let sizes = sizes(model, packings).ok_or("output or MLP have biases")?;
    match sizes.fit(gpu) {
        true => Ok((sizes, gpu)),
        false => Err("the kernel has no room for these sizes".to_owned()),
    }
}

fn packing(stored: Stored) -> Result<Packing, String> {
    match stored {
        Stored::Dense => Ok(Packing::Dense),
        Stored::Quantized(s) if s.mode == Mode::Affine && matches!(s.bits, 4 | 8) => {
            Ok(Packing::Affine {
                bits: s.bits as usize,
                group: s.group_size as usize,
            })
        }
        Stored::Quantized(scheme) => Err(format!("matrices are stored in {scheme}")),
    }
}

/// What the kernel of a token has to know, with layers, embedding and head packed like this; `None` for
/// what it lacks.
pub(crate) fn sizes(model: &Model<String>, packings: [Packing; 3]) -> Option<Sizes> {
    let first = model.layers.first()?;
    let (attention, mlp) = (first.attention()?, gated(first)?);
    let plain = |layer: &Layer<String>| {
        let mlp = gated(layer).filter(|_| not_in_kernel(layer).is_none());
        let (Some(mlp), Some(attention)) = (mlp, layer.attention()) else {
            return false;
        };
        let linears = mlp.linears().into_iter();
        let mut plain = linears.chain([&attention.o]);
        plain.all(|linear| linear.bias.is_none()) && attention.sinks.is_none()
    };
    let [layers, embedding, head] = packings;
    model.layers.iter().all(plain).then(|| Sizes {
        sliding: model.states.iter().map(|s| s.window().is_some()).collect(),
        hidden: model.hidden_size(),
        intermediate: mlp.gate.rows,
        vocab: model.vocab_size(),
        heads: attention.heads,
        kv_heads: attention.kv_heads,
        head_dim: attention.head_dim,
        layers,
        embedding,
        head,
        norms_behind: first.mixer.after.is_some(),
        qkv_biases: attention.q.bias.is_some(),
        ..Sizes::default()
    })
}

/// The MLP of a layer that has no experts.
fn gated(layer: &Layer<String>) -> Option<&Gated<String>> {
    match &layer.mlp.part {
        Mlp::Gated(mlp) => Some(mlp),
        Mlp::Experts(_) | Mlp::Both(_) => None,
    }
}

/// What the kernel of a token has no place for in a layer.
fn not_in_kernel(layer: &Layer<String>) -> Option<&'static str> {
    let attention = layer.attention().filter(|attention| !attention.gated);
    let Some(attention) = attention else {
        return Some(DELTA);
    };
    if layer.altup.is_some() {
        Some(STREAMS)
    } else if layer.per_layer.is_some() {
        Some("layers have inputs of their own")
    } else if attention.k.is_none() || attention.v.is_none() {
        Some("layers share keys, or values are made from keys")
    } else if attention.v_norm.is_some() || layer.scale.is_some() {
        Some("values have a norm, or layers a factor")
    } else {
        None
    }
}

/// Whether any layer has experts.
pub(crate) fn sparse(model: &Model<String>) -> bool {
    model.layers.iter().any(|layer| layer.mlp.part.is_sparse())
}

/// Why experts are not our kernels there.
const ROUTER_OF_ITS_OWN: &str = "the router has a norm and factors of its own";

/// Why a model with gated delta nets is not run as a whole on a GPU.
const DELTA: &str =
    "gated delta nets are kernels of their own, and gated attention several operations";

/// Why layers of several streams are not kernels on a GPU.
const STREAMS: &str = "no kernel mixes several streams";

/// Why keys are not put into the cache by our kernel, which attention then is not either.
const PARTIAL: &str = "heads are rotated in part";

const OLD_GPU: &str = "the GPU is older than sm_80";

/// Why attention is not MLX's kernel.
fn mlx_attention(model: &Model<String>) -> Option<String> {
    if model.attentions().any(|a| a.softcap.is_some()) {
        return Some("scores are squashed".to_owned());
    }
    let dims = model.attentions().map(|attention| attention.head_dim);
    let widest = dims.max().filter(|dim| *dim > 256);
    widest.map(|dim| format!("heads are {dim} wide"))
}

/// Why the attention of prompts is not our kernel on a GPU.
fn our_attention(model: &Model<String>, dtype: Dtype, gpu: Option<Target>) -> Option<String> {
    if gpu.is_none() {
        return Some(OLD_GPU.to_owned());
    }
    if dtype == Dtype::Float32 {
        return Some("activations are float32".to_owned());
    }
    let partial = |a: &Attention<String>| {
        let rope = model.ropes.get(a.rope);
        rope.is_some_and(|rope| rope.dims < a.head_dim)
    };
    if model.attentions().any(partial) {
        return Some(PARTIAL.to_owned());
    }
    let mut dims = model.attentions().map(|attention| attention.head_dim);
    let odd = dims.find(|dim| !dim.is_multiple_of(16) || *dim > 256);
    odd.map(|dim| format!("heads are {dim} wide"))
}

/// Why gated delta nets are not our kernels on a GPU.
fn our_delta(delta: &Delta<String>, gpu: Option<Target>) -> Option<String> {
    if gpu.is_none() {
        return Some(OLD_GPU.to_owned());
    }
    let [keys, values] = [delta.key_dim, delta.value_dim];
    let fits = kernels::delta::cuda::fits([keys, values]);
    (!fits).then(|| format!("keys are {keys} wide, and values {values}"))
}

/// Why kernels that unpack matrices on a GPU, of experts or step by step, do not read all of these.
fn unread<'a>(mut stored: impl Iterator<Item = &'a Stored>) -> Option<String> {
    stored.find_map(|stored| match stored {
        Stored::Dense => None,
        Stored::Quantized(s) if s.mode == Mode::Mxfp4 => None,
        Stored::Quantized(s) if s.mode == Mode::Affine && matches!(s.bits, 4 | 8) => None,
        Stored::Quantized(scheme) => Some(format!("matrices are stored in {scheme}")),
    })
}

/// Why experts are not our kernels on a GPU.
fn our_experts(
    model: &Model<String>,
    storage: &Storage,
    dtype: Dtype,
    gpu: Option<Target>,
) -> Option<String> {
    if gpu.is_none() {
        return Some(OLD_GPU.to_owned());
    }
    if dtype == Dtype::Float32 {
        return Some("activations are float32".to_owned());
    }
    if let Some(why) = unread(storage.layers.iter()) {
        return Some(why);
    }
    let mixtures = model
        .layers
        .iter()
        .filter_map(|layer| layer.mlp.part.experts());
    let mut mixtures = mixtures.peekable();
    let own = |experts: &&Experts<String>| {
        experts.router_norm.is_some() || experts.share_scales.is_some()
    };
    if mixtures.peek().is_some_and(own) {
        return Some(ROUTER_OF_ITS_OWN.to_owned());
    }
    let fits = mixtures.all(|experts| {
        let (gate, down) = (&experts.each.gate, &experts.each.down);
        let count = experts.router.rows;
        kernels::experts::cuda::fits(count, experts.top, [down.rows, gate.rows])
    });
    (!fits).then(|| "the kernels have no room for these sizes".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arch::{Config, Scheme, families, json};

    use super::*;

    /// Whether any layer is recurrent, or has gated attention as the others of such models do.
    fn recurrent(model: &Model<String>) -> bool {
        let gated = model.attentions().any(|attention| attention.gated);
        gated || model.layers.iter().any(|layer| layer.delta().is_some())
    }

    /// What people run has a plan without anything slower: every published size, plain and in the ways in
    /// which it is mostly quantized, on processors and NVIDIA's GPUs.
    #[test]
    fn published_models_run_on_the_fast_path() {
        let affine = |bits| {
            Stored::Quantized(Scheme {
                mode: Mode::Affine,
                group_size: 64,
                bits,
            })
        };
        let mut seen = 0;
        for (name, text) in families::ALL.iter().flat_map(|family| family.published) {
            let config = Config::of_json(Path::new(name), &json::parse(text).unwrap()).unwrap();
            for stored in [Stored::Dense, affine(4), affine(8)] {
                let storage = Storage {
                    layers: vec![stored],
                    embedding: stored,
                    head: stored,
                    in_12_bits: false,
                };
                // The streams of Gemma 3n are no step of a token's kernel on NVIDIA's GPUs yet.
                let sparse = sparse(&config.model);
                let odd = config.model.layers.iter().find_map(not_in_kernel);
                let hybrid = recurrent(&config.model);
                assert_eq!(odd == Some(DELTA), hybrid);
                let streams = config.model.streams.is_some();
                assert_eq!(odd == Some(STREAMS), streams);
                let alone = ["Gemma 3n", "Gemma 4"].contains(&config.family.name);
                assert_eq!(odd.is_some(), hybrid || alone);
                let in_12_bits = sizes(&config.model, [Packing::Bf12; 3]);
                let served = in_12_bits.is_some_and(|sizes| sizes.fit(TARGET));
                assert!(served != (sparse || odd.is_some()), "{name} in 12 bits");
                for device in [DeviceKind::Cpu, DeviceKind::Cuda] {
                    for step in steps(
                        &config.model,
                        &storage,
                        Dtype::Bfloat16,
                        device,
                        Some(TARGET),
                    ) {
                        let why = step.slower.as_deref();
                        let expected = match step.part {
                            "a token" => odd.filter(|_| streams),
                            "attention of prompts" if hybrid => Some(PARTIAL),
                            "streams of layers" => odd,
                            "attention of prompts" if odd.is_some() && !streams => {
                                Some("heads are 512 wide")
                            }
                            "experts" if odd.is_some() && !hybrid => Some(ROUTER_OF_ITS_OWN),
                            _ => None,
                        };
                        assert_eq!(why, expected, "{name}, {stored:?}: {step}");
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 100, "only {seen} steps");
    }

    #[test]
    fn what_is_slower_is_said_with_the_reason() {
        let (_, text) = families::of("llama").unwrap().published[0];
        let mut value = json::parse(text).unwrap();
        value["head_dim"] = 80.into();
        let config = Config::of_json(Path::new("x"), &value).unwrap();
        let storage = |stored| Storage {
            layers: vec![stored],
            embedding: stored,
            head: stored,
            in_12_bits: false,
        };
        let say = |stored, dtype, device| -> Vec<String> {
            let steps = steps(&config.model, &storage(stored), dtype, device, Some(TARGET));
            steps.iter().map(ToString::to_string).collect()
        };
        let dense = |dtype, device| say(Stored::Dense, dtype, device);
        let cuda = dense(Dtype::Bfloat16, DeviceKind::Cuda);
        assert!(cuda[0].contains("single operations (heads"), "{cuda:?}");
        assert_eq!(cuda[1], "attention of prompts: our kernel");
        let half = dense(Dtype::Float16, DeviceKind::Cpu);
        assert!(
            half[0].contains("single operations (activations are float16"),
            "{half:?}"
        );
        let wide = dense(Dtype::Float32, DeviceKind::Cuda);
        assert!(wide[1].contains("float32"), "{wide:?}");
        let nvfp4 = Stored::Quantized(Mode::Nvfp4.defaults());
        let packed = say(nvfp4, Dtype::Bfloat16, DeviceKind::Cuda);
        assert!(packed[0].contains("nvfp4"), "{packed:?}");
        let old = steps(
            &config.model,
            &storage(Stored::Dense),
            Dtype::Bfloat16,
            DeviceKind::Cuda,
            None,
        );
        assert!(
            old.iter()
                .all(|step| step.slower.as_deref() == Some(OLD_GPU))
        );
    }
}
