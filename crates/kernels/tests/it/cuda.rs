//! Every CUDA kernel compiles for every generation of GPU that is supported, without a GPU, and keeps
//! its variables in registers.

use std::fmt::Debug;

use kernels::experts::cuda as experts;
use kernels::gated::{self, Activation};
use kernels::{Dtype, argmax, attention, bf12, delta, dequantize, draw, kv, rms_norm, rope, rows};
use mlx_core::cuda::{Architecture, Compiler};

/// Ampere, Hopper, Blackwell.
const ARCHITECTURES: [Architecture; 3] = [
    Architecture::new(8, 0),
    Architecture::new(9, 0),
    Architecture::new(12, 0),
];

/// A source, with the options that it is compiled with.
struct Source {
    name: String,
    text: &'static str,
    options: Vec<String>,
}

impl Source {
    fn new(name: impl Debug, text: &'static str, options: Vec<String>) -> Self {
        let name = format!("{name:?}");
        Self {
            name,
            text,
            options,
        }
    }
}

fn sources() -> Vec<Source> {
    let mut sources = vec![
        Source::new(
            "bandwidth",
            include_str!("../../src/bandwidth/read.cu"),
            Vec::new(),
        ),
        Source::new("kv", kv::cuda::SOURCE, kv::cuda::options()),
        Source::new("rows", rows::SOURCE, rows::options()),
        Source::new("argmax", argmax::cuda::SOURCE, argmax::cuda::options()),
    ];
    for step in &draw::cuda::STEPS {
        let options = draw::cuda::OPTIONS.map(str::to_owned).to_vec();
        let text = draw::cuda::LAYOUT.source(step).leak();
        sources.push(Source::new(step.name, text, options));
    }
    for text in bf12::cuda::SOURCES {
        sources.push(Source::new("bf12", text, Vec::new()));
    }
    for dtype in Dtype::ALL {
        for bits in [2, 3, 4, 5, 6, 8] {
            let group = 64;
            for (matrices, text) in [
                (1, dequantize::SOURCE),
                (4, dequantize::SOURCE),
                (1, dequantize::ROWS_SOURCE),
            ] {
                let variant = dequantize::Variant {
                    bits,
                    group,
                    dtype,
                    matrices,
                };
                sources.push(Source::new(variant, text, variant.options()));
            }
        }
        for variant in attention_variants(dtype) {
            let (text, options) = (attention::cuda::SOURCE, variant.options());
            sources.push(Source::new(variant, text, options));
        }
        for [key_dim, value_dim] in [[128, 128], [64, 128], [64, 32]] {
            for (by_key_head, few) in [(false, true), (false, false), (true, true), (true, false)] {
                let variant = delta::cuda::Variant {
                    key_dim,
                    value_dim,
                    width: 4,
                    by_key_head,
                    few,
                    dtype,
                };
                sources.push(Source::new(variant, delta::cuda::SOURCE, variant.options()));
            }
        }
        for variant in expert_variants(dtype) {
            sources.push(Source::new(variant, variant.source(), variant.options()));
        }
        for activation in [Activation::Silu, Activation::GeluTanh, CLAMPED] {
            let variant = gated::cuda::Variant { activation, dtype };
            sources.push(Source::new(variant, gated::cuda::SOURCE, variant.options()));
        }
        // Qwen3-0.6B's, Gemma's 27B, one that fills no warp, and the longest.
        for width in [1024, 5376, 40, 16384] {
            for (add, behind, norm) in [
                (false, false, true),
                (true, false, false),
                (true, false, true),
                (true, true, false),
                (true, true, true),
            ] {
                let variant = rms_norm::cuda::Variant {
                    width,
                    dtype,
                    add,
                    behind,
                    norm,
                };
                let (text, options) = (rms_norm::cuda::SOURCE, variant.options());
                sources.push(Source::new(variant, text, options));
            }
        }
        for (head_dim, heads, kv_heads) in [(128, 16, 8), (256, 4, 1), (80, 3, 1), (8, 2, 2)] {
            for new in [true, false] {
                for norms in [false, true] {
                    let variant = rope::cuda::Variant {
                        head_dim,
                        heads,
                        kv_heads,
                        dtype,
                        norms,
                        new,
                    };
                    sources.push(Source::new(variant, rope::cuda::SOURCE, variant.options()));
                }
            }
        }
    }
    sources
}

/// Short heads, the published ones, and some that fill no power of two.
fn attention_variants(dtype: Dtype) -> Vec<attention::cuda::Variant> {
    if dtype == Dtype::F32 {
        return Vec::new();
    }
    let of_one = [16, 64, 80, 128, 144, 240, 256].map(|dim| (dim, 1));
    let of_two = [16, 64, 80, 128].map(|dim| (dim, 2));
    let sizes = of_one.into_iter().chain(of_two);
    let with = [(false, false), (true, false), (false, true)];
    let variants = sizes.flat_map(|(head_dim, parts)| {
        with.map(|(squashes, sinks)| attention::cuda::Variant {
            head_dim,
            dtype,
            parts,
            squashes,
            sinks,
        })
    });
    variants.collect()
}

/// gpt-oss's.
const CLAMPED: Activation = Activation::Clamped {
    limit: 7.0,
    alpha: 1.702,
};

/// Qwen3's 128 experts, plain and packed, and gpt-oss's 32.
fn expert_variants(dtype: Dtype) -> Vec<experts::Variant> {
    use experts::{Packing, Part};
    if dtype == Dtype::F32 {
        return Vec::new();
    }
    let affine = |bits, group| Packing::Affine { bits, group };
    let mut variants = Vec::new();
    for (packing, count, top, activation) in [
        (Packing::Dense, 128, 8, Activation::Silu),
        (affine(4, 64), 128, 8, Activation::Silu),
        (affine(8, 32), 512, 10, Activation::Silu),
        (Packing::Mxfp4, 32, 4, CLAMPED),
    ] {
        let of_packed = [
            Part::Logits,
            Part::FewInner,
            Part::FewOuter,
            Part::ManyInner,
            Part::ManyOuter,
        ];
        let of_any = [Part::Routes, Part::Sorted, Part::Sums];
        let others = of_any
            .into_iter()
            .filter(|_| packing == Packing::Dense || top == 4);
        let parts = of_packed.into_iter().chain(others);
        variants.extend(parts.map(|part| experts::Variant {
            part,
            dtype,
            packing,
            experts: count,
            top,
            renormalised: top != 10,
            activation,
            shared: top == 10,
            biases: top == 4 && !matches!(part, Part::Routes | Part::Sorted | Part::ManyOuter),
        }));
    }
    variants
}

/// What a block may ask for on GPUs of workstations (sm_86, sm_89, sm_120).
#[test]
fn blocks_fit_the_smallest_shared_memory() {
    for variant in attention_variants(Dtype::Bf16) {
        assert!(variant.shared_memory() <= 99 << 10, "{variant:?}");
    }
    const { assert!(experts::SHARED_MEMORY <= 99 << 10) };
}

/// NVIDIA's compiler, where `cargo xtask test` put it.
fn compiler() -> Option<Compiler> {
    let file = build_scripts::cuda_compiler_if_there();
    if file.is_none() {
        eprintln!("skipped: NVIDIA's compiler is not there; `cargo xtask test` fetches it");
    }
    Some(Compiler::open(&file?).unwrap())
}

/// What the assembler says of bytes that went to memory: `16 bytes spill stores, 8 bytes spill loads`.
fn spilled_bytes(log: &str) -> u64 {
    let words: Vec<&str> = log.split_whitespace().collect();
    let spills = words
        .windows(4)
        .filter(|w| w[1] == "bytes" && w[2] == "spill");
    spills.map(|w| w[0].parse::<u64>().unwrap()).sum()
}

#[test]
fn every_kernel_compiles_for_every_architecture_and_spills_nothing() {
    let Some(compiler) = compiler() else { return };
    for source in sources() {
        for architecture in ARCHITECTURES {
            let mut options: Vec<&str> = source.options.iter().map(String::as_str).collect();
            options.push("--ptxas-options=-v");
            let image = compiler
                .compile(&source.name, source.text, architecture, &options)
                .unwrap_or_else(|error| panic!("{} for {architecture}: {error}", source.name));
            let log = &image.log;
            assert!(
                log.contains("spill stores"),
                "no report of the assembler: {log}"
            );
            assert_eq!(
                spilled_bytes(log),
                0,
                "{} for {architecture}: {log}",
                source.name
            );
        }
    }
}

#[test]
fn a_spill_is_seen() {
    let Some(compiler) = compiler() else { return };
    // Three hundred values alive at a time, and thirty-two registers.
    let source = r#"
extern "C" __global__ void __launch_bounds__(1024, 2) spills(const float* x, float* y) {
  float v[300];
#pragma unroll
  for (int i = 0; i < 300; i++) v[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 300; i++) sum = sum * v[299 - i] + v[i];
  y[threadIdx.x] = sum;
}"#;
    let image = compiler
        .compile("spills", source, ARCHITECTURES[1], &["--ptxas-options=-v"])
        .unwrap();
    assert!(spilled_bytes(&image.log) > 0, "{}", image.log);
}
