//! The CUDA decode kernel compiles for every generation of GPUs, for every kind of model, without
//! spilling registers. Needs NVIDIA's compiler and no GPU.

use kernels::decode::{Packing, Sizes, Target};
use mlx_core::cuda::{Architecture, Compiler};

/// An A100, an H100 or H200, and a consumer GPU with less shared memory.
const GPUS: [(Architecture, Target); 3] = [
    (Architecture::new(8, 0), target(108, 163)),
    (Architecture::new(9, 0), target(132, 227)),
    (Architecture::new(12, 0), target(170, 99)),
];

const fn target(multiprocessors: u32, shared_kib: u32) -> Target {
    Target {
        multiprocessors,
        shared_memory: shared_kib * 1024,
    }
}

const fn affine(bits: usize, group: usize) -> Packing {
    Packing::Affine { bits, group }
}

/// Qwen3-0.6B with every matrix packed like this.
fn qwen3(packing: Packing) -> Sizes {
    Sizes {
        sliding: vec![false; 28],
        hidden: 1024,
        intermediate: 3072,
        vocab: 151_936,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        layers: packing,
        embedding: packing,
        head: packing,
        norms_behind: false,
        gelu: false,
        head_norms: true,
        qkv_biases: false,
        eps: 1e-6,
        embed_scale: 1.0,
        softcap: 0.0,
        score_cap: 0.0,
        full: [0.088_388_35, 1.0],
        windowed: [1.0, 1.0],
    }
}

/// Gemma-3-1B with every matrix packed like this.
fn gemma3(packing: Packing) -> Sizes {
    Sizes {
        sliding: (1..=26).map(|layer| layer % 6 != 0).collect(),
        hidden: 1152,
        intermediate: 6912,
        vocab: 262_144,
        heads: 4,
        kv_heads: 1,
        head_dim: 256,
        norms_behind: true,
        gelu: true,
        embed_scale: 34.0,
        softcap: 30.0,
        full: [0.0625, 0.125],
        windowed: [0.0625, 1.0],
        ..qwen3(packing)
    }
}

/// Llama-3.2-1B with every matrix packed like this.
fn llama(packing: Packing) -> Sizes {
    Sizes {
        sliding: vec![false; 16],
        hidden: 2048,
        intermediate: 8192,
        vocab: 128_256,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        head_norms: false,
        full: [0.125, 1.0],
        ..qwen3(packing)
    }
}

/// Qwen2.5-0.5B with every matrix packed like this.
fn qwen2(packing: Packing) -> Sizes {
    Sizes {
        sliding: vec![false; 24],
        hidden: 896,
        intermediate: 4864,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        head_norms: false,
        qkv_biases: true,
        full: [0.125, 1.0],
        ..qwen3(packing)
    }
}

/// Gemma-2-2B with every matrix packed like this.
fn gemma2(packing: Packing) -> Sizes {
    Sizes {
        sliding: (0..26).map(|layer| layer % 2 == 0).collect(),
        hidden: 2304,
        intermediate: 9216,
        vocab: 256_000,
        heads: 8,
        kv_heads: 4,
        head_norms: false,
        embed_scale: 48.0,
        score_cap: 50.0,
        full: [0.0625, 1.0],
        ..gemma3(packing)
    }
}

/// NVIDIA's compiler, where `cargo xtask test` put it.
fn compiler() -> Option<Compiler> {
    let file = build_scripts::cuda_compiler_if_there();
    if file.is_none() {
        eprintln!("skipped: NVIDIA's compiler is not there; `cargo xtask test` fetches it");
    }
    Some(Compiler::open(&file?).unwrap())
}

/// Compiles the kernel of so many tokens; nothing may be kept in memory that belongs into registers.
fn compiles_for(
    compiler: &Compiler,
    name: &str,
    sizes: &Sizes,
    (architecture, target): (Architecture, Target),
    tokens: usize,
) {
    let options = ["-default-device", "--ptxas-options=-v"];
    let image = compiler
        .compile(name, &sizes.source(target, tokens), architecture, &options)
        .unwrap();
    let clean = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
    assert!(
        image.log.contains(clean),
        "{name}, {tokens} tokens, for {architecture} spills registers:\n{}",
        image.log
    );
}

/// Compiles for every GPU that has room, which `everywhere` says are all.
fn compiles(name: &str, sizes: &Sizes, everywhere: bool) {
    let Some(compiler) = compiler() else { return };
    for gpu in GPUS {
        if !everywhere && !sizes.fit(gpu.1) {
            continue;
        }
        assert!(sizes.fit(gpu.1), "{name}: {} has no room", gpu.0);
        compiles_for(&compiler, name, sizes, gpu, 1);
    }
}

#[test]
fn dense_models_compile() {
    compiles("qwen3", &qwen3(Packing::Dense), true);
    compiles("gemma3", &gemma3(Packing::Dense), true);
    compiles("qwen3 12 bits", &qwen3(Packing::Bf12), true);
    compiles("gemma3 12 bits", &gemma3(Packing::Bf12), true);
    compiles("llama", &llama(Packing::Dense), false);
    compiles("qwen2", &qwen2(Packing::Dense), false);
    compiles("gemma2", &gemma2(Packing::Bf12), false);
}

#[test]
fn matrices_of_different_packings_compile() {
    let mixed = |layers, rest| Sizes {
        embedding: rest,
        head: rest,
        ..qwen3(layers)
    };
    compiles(
        "12 bits, dense head",
        &mixed(Packing::Bf12, Packing::Dense),
        true,
    );
    compiles(
        "dense, packed head",
        &mixed(Packing::Dense, affine(4, 64)),
        true,
    );
    compiles(
        "packed, dense head",
        &mixed(affine(4, 64), Packing::Dense),
        true,
    );
}

#[test]
fn packed_models_compile() {
    compiles("qwen3 4 bits", &qwen3(affine(4, 64)), true);
    compiles("qwen3 8 bits", &qwen3(affine(8, 64)), true);
    compiles("gemma3 4 bits", &gemma3(affine(4, 64)), true);
    compiles("gemma3 8 bits", &gemma3(affine(8, 64)), true);
    compiles("llama 4 bits", &llama(affine(4, 64)), false);
    compiles("qwen2 4 bits", &qwen2(affine(4, 64)), false);
    compiles("gemma2 4 bits", &gemma2(affine(4, 64)), false);
}

#[test]
fn every_group_compiles() {
    for group in [32, 128] {
        compiles("qwen3 4 bits", &qwen3(affine(4, group)), true);
        compiles("qwen3 8 bits", &qwen3(affine(8, group)), true);
    }
}

#[test]
fn large_models_and_many_heads_compile() {
    let qwen3_8b = qwen3_8b(affine(4, 64));
    compiles("qwen3-8b", &qwen3_8b, true);
    let in_12_bits = Sizes {
        layers: Packing::Bf12,
        embedding: Packing::Bf12,
        head: Packing::Bf12,
        ..qwen3_8b.clone()
    };
    compiles("qwen3-8b 12 bits", &in_12_bits, true);
    let many_heads = Sizes {
        heads: 64,
        hidden: 5120,
        intermediate: 25_600,
        ..qwen3_8b
    };
    compiles("qwen3-32b", &many_heads, false);
}

fn qwen3_8b(packing: Packing) -> Sizes {
    Sizes {
        sliding: vec![false; 36],
        hidden: 4096,
        intermediate: 12_288,
        heads: 32,
        ..qwen3(packing)
    }
}

/// An H200 takes eight tokens of the models that people run through together, and by another kernel many.
#[test]
fn tokens_of_several_sequences_go_together() {
    let [a100, h200, small] = GPUS.map(|(_, target)| target);
    for packing in [Packing::Dense, Packing::Bf12, affine(4, 64), affine(8, 64)] {
        for sizes in [qwen3(packing), qwen3_8b(packing), gemma3(packing)] {
            let steps = sizes.steps(h200);
            assert_eq!(steps[..4], [1, 8, 16, 32], "{sizes:?}");
            assert_eq!(steps.last(), Some(&sizes.together(h200)), "{sizes:?}");
        }
    }
    assert_eq!(qwen3(Packing::Dense).steps(a100)[..3], [1, 8, 16]);
    assert_eq!(qwen3(Packing::Dense).steps(small)[..3], [1, 8, 16]);
    // There is no room for many there.
    assert_eq!(qwen3_8b(affine(4, 64)).steps(small), [1, 2]);
    // Each has a block of its own.
    let few = Target {
        multiprocessors: 6,
        ..a100
    };
    let tiny = Sizes {
        hidden: 256,
        intermediate: 512,
        vocab: 1024,
        ..qwen3(Packing::Dense)
    };
    assert_eq!(tiny.steps(a100)[..2], [1, 8]);
    assert_eq!(tiny.steps(few), [1, 4]);
}

#[test]
fn kernels_of_several_tokens_compile() {
    let Some(compiler) = compiler() else { return };
    let [a100, h200, small] = GPUS;
    let models = [
        ("qwen3-8b", qwen3_8b(Packing::Dense), h200),
        ("qwen3-8b 12 bits", qwen3_8b(Packing::Bf12), h200),
        ("qwen3-8b 4 bits", qwen3_8b(affine(4, 64)), small),
        ("qwen3 8 bits", qwen3(affine(8, 64)), a100),
        ("gemma3 4 bits", gemma3(affine(4, 64)), a100),
        ("gemma2 12 bits", gemma2(Packing::Bf12), h200),
        ("llama 4 bits", llama(affine(4, 128)), h200),
        ("qwen2", qwen2(Packing::Dense), small),
    ];
    for (name, sizes, gpu) in models {
        let tokens = sizes.steps(gpu.1)[1];
        assert!(tokens > 1, "{name}");
        compiles_for(&compiler, name, &sizes, gpu, tokens);
    }
    let of_four = qwen3_8b(affine(8, 64));
    compiles_for(&compiler, "qwen3-8b 8 bits", &of_four, h200, 4);
}

/// Its source checks that the host knows how much shared and scratch memory it takes.
#[test]
fn kernels_of_many_tokens_compile() {
    let Some(compiler) = compiler() else { return };
    let [a100, h200, _] = GPUS;
    let models = [
        ("qwen3-8b 12 bits", qwen3_8b(Packing::Bf12), h200),
        ("qwen3-8b 4 bits", qwen3_8b(affine(4, 64)), h200),
        ("gemma3", gemma3(Packing::Dense), a100),
    ];
    for (name, sizes, (architecture, target)) in models {
        let tokens = sizes.together(target);
        assert!(tokens > 8, "{name}");
        let source = sizes.source(target, tokens);
        compiler
            .compile(name, &source, architecture, &["-default-device"])
            .unwrap();
    }
}

#[test]
fn what_the_kernel_cannot_do_is_left_to_the_single_operations() {
    let h200 = GPUS[1].1;
    assert!(qwen3(Packing::Dense).fit(h200));
    let refused = [
        Sizes {
            head_dim: 96,
            ..qwen3(Packing::Dense)
        },
        Sizes {
            heads: 17,
            ..qwen3(Packing::Dense)
        },
        Sizes {
            kv_heads: 1,
            ..qwen3(Packing::Dense)
        },
        Sizes {
            hidden: 1000,
            ..qwen3(Packing::Dense)
        },
        qwen3(affine(3, 64)),
        // An odd number of groups in a row.
        Sizes {
            hidden: 1024 + 64,
            ..qwen3(affine(4, 64))
        },
        // More than fits beside two tiles a warp.
        Sizes {
            intermediate: 131_072,
            ..qwen3(Packing::Dense)
        },
    ];
    for sizes in refused {
        assert!(!sizes.fit(h200), "{sizes:?}");
    }
}
