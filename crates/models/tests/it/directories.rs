//! What people have: directories whose files, names or settings differ from what a converter writes, and
//! that transformers or mlx-lm open.
//!
//! The logits are those that the reference computed for the fixture: a directory of the same weights must
//! give the same, however they lie in it.

use std::path::Path;

use crate::common::{Expected, load_from, logits_in_chunks, open_device, relative_error};
use crate::edit::{Edited, Tensor, shard, write};
use mlx_core::Dtype;
use models::ModelInfo;
use serde_json::{Value, json};

/// In float32, for every position.
const FLOAT32_BOUND: f64 = 1e-4;

/// Whether `dir` gives the logits that the reference computed for the fixture `name`.
fn is_reference(dir: &Path, name: &str) -> bool {
    open_device();
    let expected = Expected::read(name);
    let model = load_from(dir, Some(Dtype::Float32));
    let ids = expected.ints("input_ids");
    let found = logits_in_chunks(&model, &mut model.new_cache(), &ids, &[2048]);
    let key = if expected.is_quantized() {
        "logits_f64"
    } else {
        "logits"
    };
    let error = relative_error(&found, &expected.floats(key), model.info().vocab_size);
    println!("{name}: {error:.2e}");
    error <= FLOAT32_BOUND
}

fn assert_reference(edited: &Edited, name: &str, what: &str) {
    assert!(is_reference(edited.path(), name), "{name}, {what}");
}

/// The one line with which `dir` is refused.
fn refusal(dir: &Path) -> String {
    let message = ModelInfo::read(dir).expect_err("was accepted").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

/// The path of the embedding in a fixture.
fn embedding(edited: &Edited) -> String {
    let mut names = edited.tensors.keys();
    let name = names.find_map(|name| name.strip_suffix("embed_tokens.weight"));
    format!("{}embed_tokens", name.unwrap())
}

/// The path of the head that belongs to an embedding at `embedding`, as writers name it.
fn head_beside(embedding: &str) -> &'static str {
    match embedding {
        "language_model.model.embed_tokens" => "language_model.lm_head",
        _ => "lm_head",
    }
}

const TIED: [&str; 6] = [
    "qwen3-tied",
    "qwen3-mxfp4",
    "gemma3-bf16",
    "gemma3-q4-g64",
    "gemma3-nested-hub",
    "gemma3-nested-v5",
];

// That a head of other values counts, whatever the configuration says of it, the fixtures
// `*-own-head` and `gemma3-nested-partial` hold.

#[test]
fn a_head_that_equals_the_embedding_is_held_once() {
    for name in TIED {
        let plain = ModelInfo::read(Edited::of(name).single().path()).unwrap();
        let mut edited = Edited::of(name);
        let embedding = embedding(&edited);
        for (tensor, value) in edited.tensors.clone() {
            if let Some(part) = tensor.strip_prefix(&format!("{embedding}.")) {
                let head = format!("{}.{part}", head_beside(&embedding));
                edited.tensors.insert(head, value);
            }
        }
        let edited = edited.single();
        let info = ModelInfo::read(edited.path()).unwrap();
        assert!(info.tied_head, "{name}");
        assert_eq!(info.weight_bytes, plain.weight_bytes, "{name}");
        assert_reference(&edited, name, "with the embedding written twice");
    }
}

#[test]
fn a_head_that_differs_anywhere_is_not_tied() {
    for name in [
        "qwen3-own-head",
        "gemma3-own-head",
        "gemma3-nested-own-head",
    ] {
        let info = ModelInfo::read(Edited::of(name).single().path()).unwrap();
        assert!(!info.tied_head, "{name}");
    }
    // In the last byte of what is not the weight itself.
    let mut edited = Edited::of("gemma3-q4-g64");
    let embedding = embedding(&edited);
    for part in ["weight", "scales", "biases"] {
        let mut tensor = edited.tensors[&format!("{embedding}.{part}")].clone();
        if part == "biases" {
            *tensor.bytes.last_mut().unwrap() ^= 1;
        }
        edited.tensors.insert(format!("lm_head.{part}"), tensor);
    }
    let info = ModelInfo::read(edited.single().path()).unwrap();
    assert!(!info.tied_head);
}

/// Of two tensors that share their memory safetensors' `save_model` keeps one, and transformers ties the
/// other one to it.
#[test]
fn the_head_alone_is_the_embedding_of_a_tied_pair() {
    for name in TIED {
        let edited = Edited::of(name);
        let embedding = embedding(&edited);
        let edited = edited.renamed(|tensor| {
            let part = tensor.strip_prefix(&format!("{embedding}."));
            Some(part.map_or(tensor.to_owned(), |part| {
                format!("{}.{part}", head_beside(&embedding))
            }))
        });
        let edited = edited.single();
        assert!(ModelInfo::read(edited.path()).unwrap().tied_head, "{name}");
        assert_reference(&edited, name, "with the head alone");
    }
    let untied = Edited::of("qwen3-head")
        .renamed(|name| (name != "model.embed_tokens.weight").then(|| name.to_owned()));
    let message = refusal(untied.single().path());
    assert_says(&message, &["model.embed_tokens.weight", "missing"]);
}

#[test]
fn the_inner_model_may_be_saved_by_itself() {
    for (name, prefix) in [
        ("qwen3-tied", "model."),
        ("qwen3-head", "model."),
        ("qwen3-sharded", "model."),
        ("qwen3-mixed", "model."),
        ("gemma3-bf16", "model."),
        ("gemma3-nested-v5", "model.language_model."),
        ("gemma3-nested-hub", "language_model.model."),
        ("gemma3-nested-mixed", "language_model.model."),
    ] {
        for new in ["", "model.", "language_model.", "model.language_model."] {
            let edited = Edited::of(name).renamed(|tensor| {
                Some(match tensor.strip_prefix(prefix) {
                    Some(rest) => format!("{new}{rest}"),
                    None => tensor.to_owned(),
                })
            });
            assert_reference(&edited.sharded(2), name, &format!("below '{new}'"));
        }
    }
}

#[test]
fn a_stale_index_is_passed_over() {
    for name in ["qwen3-tied", "gemma3-q4-g64"] {
        // Of the model that was quantized.
        let single = Edited::of(name).single().index(4);
        assert_reference(&single, name, "an index beside one file");
        let shards = Edited::of(name).sharded(2).index(5);
        assert_reference(&shards, name, "an index beside shards of another count");

        // With what is left of it.
        let both = Edited::of(name).sharded(2).index(5);
        let mut other = Edited::of(name);
        for tensor in other.tensors.values_mut() {
            *tensor = tensor.changed();
        }
        for i in [0, 3] {
            write(&both.path().join(shard(i, 5)), &other.shard(i, 5));
        }
        assert_reference(&both, name, "an index beside some of its shards");

        // All of it: as transformers does, the one file is taken.
        let single = Edited::of(name).single().index(4);
        for i in 0..4 {
            write(&single.path().join(shard(i, 4)), &other.shard(i, 4));
        }
        assert_reference(&single, name, "one file beside an index and its shards");

        // Broken.
        let broken = Edited::of(name).single();
        let index = broken.path().join("model.safetensors.index.json");
        std::fs::write(index, "{").unwrap();
        assert_reference(&broken, name, "a broken index beside one file");
    }
}

#[test]
fn an_index_whose_shards_are_missing_is_what_is_wrong() {
    let edited = Edited::of("qwen3-tied").sharded(3).index(3);
    std::fs::remove_file(edited.path().join(shard(1, 3))).unwrap();
    assert_says(
        &refusal(edited.path()),
        &["index.json", "model-00002-of-00003", "1 of 3"],
    );
    // A file that is no whole model does not stand in for them.
    write(
        &edited.path().join("model.safetensors"),
        &edited.shard(1, 3),
    );
    assert_reference(
        &edited,
        "qwen3-tied",
        "the missing shard under another name",
    );
}

#[test]
fn of_two_tensors_of_one_name_the_index_says_which_counts() {
    let name = "qwen3-sharded";
    let twice = "model.layers.0.mlp.up_proj.weight";
    let stale = |dir: &Edited, of: usize| {
        let mut tensors = dir.shard(of, 3);
        assert!(!tensors.contains_key(twice));
        tensors.insert(twice.into(), dir.tensors[twice].changed());
        write(&dir.path().join(shard(of, 3)), &tensors);
    };
    let home = (0..3).find(|&i| Edited::of(name).shard(i, 3).contains_key(twice));
    for other in (0..3).filter(|&i| Some(i) != home) {
        let edited = Edited::of(name).sharded(3).index(3);
        stale(&edited, other);
        assert_reference(&edited, name, &format!("a stale tensor in shard {other}"));

        let unsaid = Edited::of(name).sharded(3);
        stale(&unsaid, other);
        let message = refusal(unsaid.path());
        assert_says(&message, &[twice, "is also in", "model-0000"]);
    }
    // Where they are the same, or nobody uses them, it does not matter.
    let same = Edited::of(name).sharded(3);
    let mut first = same.shard(0, 3);
    first.extend(same.shard(1, 3));
    let unused = same.tensors[twice].clone();
    first.insert("vision.extra".into(), unused.changed());
    write(&same.path().join(shard(0, 3)), &first);
    let mut second = same.shard(1, 3);
    second.insert("vision.extra".into(), unused);
    write(&same.path().join(shard(1, 3)), &second);
    assert_reference(&same, name, "the same tensors twice");
}

/// The `quantization` of `config`.
fn quantization(config: &mut Value) -> &mut serde_json::Map<String, Value> {
    config["quantization"].as_object_mut().unwrap()
}

#[test]
fn shapes_say_how_a_layer_is_packed_where_its_name_does_not() {
    for name in [
        "qwen3-mixed",
        "gemma3-nested-mixed",
        "qwen3-partial",
        "gemma3-nested-partial",
    ] {
        let mut roots = vec!["model.", "language_model.model."].into_iter();
        let tensors = Edited::of(name).tensors;
        let own = roots.find(|root| tensors.keys().any(|t| t.starts_with(root)));
        let own = own.unwrap();
        // As other programs, or other versions of the same, name the layers.
        for other in [
            "",
            "model.",
            "language_model.",
            "language_model.model.",
            "model.language_model.",
        ] {
            for suffix in ["", ".weight"] {
                let edited = Edited::of(name).config(|config| {
                    let settings = quantization(config);
                    *settings = std::mem::take(settings)
                        .into_iter()
                        .map(|(key, value)| match key.strip_prefix(own) {
                            Some(rest) => (format!("{other}{rest}{suffix}"), value),
                            None => (key, value),
                        })
                        .collect();
                });
                let what = format!("keys below '{other}' with '{suffix}'");
                assert_reference(&edited.single(), name, &what);
            }
        }
        // Not at all, beside a scheme that no layer has.
        for global in [
            json!({"group_size": 128, "bits": 2}),
            json!({"group_size": 64, "bits": 4, "mode": "mxfp4"}),
            json!({"group_size": 32, "bits": 8, "mode": "mxfp8", "vision_tower": {"bits": 7}}),
        ] {
            let edited = Edited::of(name).config(|config| {
                config["quantization"] = global.clone();
                config["quantization_config"] = global.clone();
            });
            assert_reference(&edited.single(), name, &format!("{global}"));
        }
    }
}

#[test]
fn what_is_said_of_a_layer_by_its_own_name_must_be_true() {
    let layer = "model.layers.0.mlp.down_proj";
    for (said, parts) in [
        (
            json!({"group_size": 32, "bits": 4}),
            &["affine, 8 bits", "affine, 4 bits"][..],
        ),
        (
            json!({"group_size": 32, "bits": 7}),
            &["7 bits", "affine", layer],
        ),
        (json!({"mode": "mxfp8"}), &["affine, 8 bits", "mxfp8"]),
        (json!(false), &["scales", "not quantized"]),
    ] {
        let edited = Edited::of("qwen3-mixed").config(|config| {
            quantization(config).insert(layer.into(), said);
        });
        let message = refusal(edited.single().path());
        assert_says(&message, &["down_proj"]);
        assert_says(&message, parts);
    }
    let none = Edited::of("qwen3-mixed").config(|config| {
        let config = config.as_object_mut().unwrap();
        config.remove("quantization");
        config.remove("quantization_config");
    });
    let message = refusal(none.single().path());
    assert_says(&message, &["scales", "config.json has no 'quantization'"]);
}

#[test]
fn packed_tensors_that_do_not_agree_are_refused() {
    let scales = "model.layers.0.mlp.up_proj.scales";
    let changed = |change: &dyn Fn(&mut Edited)| {
        let mut edited = Edited::of("qwen3-q4-g32");
        change(&mut edited);
        refusal(edited.single().path())
    };
    let missing = changed(&|edited| drop(edited.tensors.remove(scales)));
    assert_says(&missing, &["up_proj.weight", "up_proj.scales", "missing"]);
    let groups = changed(&|edited| {
        let scales = edited.tensors.get_mut(scales).unwrap();
        scales.shape[1] = 3;
        scales.bytes.resize(scales.shape[0] * 3 * 4, 1);
    });
    assert_says(&groups, &["up_proj.weight", "64 columns"]);
    let large = changed(&|edited| {
        let scales = edited.tensors.get_mut(scales).unwrap();
        scales.shape[1] = 8;
        scales.bytes.resize(scales.shape[0] * 8 * 4, 1);
    });
    assert_says(&large, &["up_proj.weight", "4 bits in groups of 8"]);
    let second = changed(&|edited| {
        let one = edited.tensors["model.norm.weight"].clone();
        let name = "model.layers.0.mlp.up_proj.global_scale";
        edited.tensors.insert(name.into(), one);
    });
    assert_says(&second, &["global_scale", "not supported"]);
}

#[test]
fn what_a_quantizer_left_behind_on_dense_weights_means_nothing() {
    for name in ["qwen3-tied", "gemma3-bf16", "gemma3-nested-hub"] {
        for left in [
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}),
            json!({"quant_method": "bitsandbytes", "load_in_8bit": true, "bits": 8}),
            json!({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"bits": "x"}}}),
        ] {
            let edited =
                Edited::of(name).config(|config| config["quantization_config"] = left.clone());
            assert_reference(&edited.single(), name, &format!("{left}"));
            if name == "gemma3-nested-hub" {
                let edited = Edited::of(name)
                    .config(|config| config["text_config"]["quantization_config"] = left.clone());
                assert_reference(&edited.single(), name, &format!("text_config: {left}"));
            }
        }
        for empty in ["quantization", "quantization_config"] {
            let edited = Edited::of(name).config(|config| config[empty] = json!({}));
            assert_reference(&edited.single(), name, "an empty object");
        }
        let edited = Edited::of(name)
            .config(|config| config["quantization"] = json!({"bits": 4, "group_size": 64}));
        assert_reference(&edited.single(), name, "a scheme and no packed layer");
    }
}

/// Replaces the weights of the first layer's `q_proj` by what another program writes.
fn packed_by_another(parts: &[(&str, safetensors::Dtype)]) -> Edited {
    let path = "model.layers.0.self_attn.q_proj";
    let mut edited = Edited::of("qwen3-tied");
    edited.tensors.remove(&format!("{path}.weight"));
    for (part, dtype) in parts {
        let tensor = Tensor {
            dtype: *dtype,
            shape: vec![2, 8],
            bytes: vec![7; 16 * dtype.bitsize() / 8],
        };
        edited.tensors.insert(format!("{path}.{part}"), tensor);
    }
    edited.single()
}

#[test]
fn what_another_program_packed_is_refused_by_its_name() {
    use safetensors::Dtype::{F8_E4M3, F16, F32, I32, U8};
    let gptq = [
        ("qweight", I32),
        ("qzeros", I32),
        ("scales", F16),
        ("g_idx", I32),
    ];
    let awq = &gptq[..3];
    let fp8 = [("weight", F8_E4M3), ("weight_scale_inv", F32)];
    let compressed = [("weight_packed", I32), ("weight_scale", F16)];
    let bnb = [
        ("weight", U8),
        ("weight.absmax", U8),
        ("weight.quant_map", F32),
    ];
    for (parts, method) in [
        (
            &gptq[..],
            json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
        ),
        (
            awq,
            json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}),
        ),
        (
            &fp8[..],
            json!({"quant_method": "fp8", "weight_block_size": [128, 128]}),
        ),
        (
            &compressed[..],
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
        ),
        (
            &bnb[..],
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
        ),
    ] {
        let name = method["quant_method"].as_str().unwrap().to_owned();
        let edited = packed_by_another(parts);
        let edited = edited.config(|config| config["quantization_config"] = method.clone());
        let message = refusal(edited.path());
        assert_says(
            &message,
            &["config.json", &name, "not supported", "mlx_lm.convert"],
        );

        // Where the configuration does not say so.
        let message = refusal(packed_by_another(parts).path());
        assert_says(
            &message,
            &[
                "layers.0.self_attn.q_proj",
                "another program",
                "mlx_lm.convert",
            ],
        );
    }
}

/// Writes `tensors` with the dtype of `name` called `dtype`, which may be one that nobody knows.
fn write_with_dtype(edited: &Edited, name: &str, dtype: &str) {
    let path = edited.path().join("model.safetensors");
    write(&path, &edited.tensors);
    let file = std::fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&file[8..end]).unwrap();
    header[name]["dtype"] = json!(dtype);
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    let whole = [&length[..], header.as_bytes(), &file[end..]].concat();
    std::fs::write(&path, whole).unwrap();
}

#[test]
fn a_dtype_that_mlx_lacks_matters_only_where_it_is_used() {
    use safetensors::Dtype::{F4, F6_E2M3, U8};
    for (dtype, of_its_size) in [
        ("F8_E5M2", U8),
        ("F8_E4M3FNUZ", U8),
        ("F8_E5M2FNUZ", U8),
        ("F4", F4),
        ("F6_E2M3", F6_E2M3),
        ("I4_OF_TOMORROW", U8),
    ] {
        for name in ["qwen3-tied", "gemma3-nested-hub", "qwen3-q4-g32"] {
            let mut edited = Edited::of(name);
            let tensor = Tensor {
                dtype: of_its_size,
                shape: vec![16],
                bytes: vec![3; 16 * of_its_size.bitsize() / 8],
            };
            edited.tensors.insert("vision.extra".into(), tensor);
            write_with_dtype(&edited, "vision.extra", dtype);
            assert_reference(&edited, name, dtype);
        }
    }
    for dtype in ["F8_E5M2", "F8_E4M3FNUZ", "I4_OF_TOMORROW"] {
        for used in ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"] {
            let mut edited = Edited::of("qwen3-tied");
            let tensor = edited.tensors.get_mut(used).unwrap();
            tensor.dtype = safetensors::Dtype::U8;
            tensor.bytes.truncate(tensor.bytes.len() / 4);
            write_with_dtype(&edited, used, dtype);
            assert_says(
                &refusal(edited.path()),
                &["model.safetensors", used, dtype, "convert"],
            );
        }
    }
}
