//! gpt-oss (arXiv:2508.10925): mixtures of clamped experts, biases everywhere, attention by turns in a window and
//! over everything, in which a learned score of each head joins those of the keys. Keys and defaults are those of
//! transformers' `GptOssConfig`.

use super::Family;
use super::common::{SILU, check_activation, config, eps, kv_heads, tied, window, windows};
use crate::fields::Fields;
use crate::layers::{At, Biases, Dims, Mixture};
use crate::{
    Activation, Attention, Config, Experts, Gated, Linear, Mlp, Result, Rope, RopeScaling,
};

pub(super) const FAMILY: Family = Family {
    name: "gpt-oss",
    model_types: &["gpt_oss"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    check_activation(f, "hidden_act", SILU)?;
    let hidden = f.size("hidden_size")?.unwrap_or(2880);
    let heads = f.size("num_attention_heads")?.unwrap_or(64);
    let width = f.size("intermediate_size")?.unwrap_or(2880);
    let dims = Dims {
        hidden,
        intermediate: width,
        vocab: f.size("vocab_size")?.unwrap_or(201_088),
        heads,
        kv_heads: kv_heads(f, heads, 8)?,
        head_dim: match f.is_null("head_dim") {
            true => hidden / heads,
            false => f.size("head_dim")?.unwrap_or(64),
        },
        eps: eps(f, 1e-5)?,
        centered: false,
    };
    let mixture = mixture(f, width)?;
    let activation = Activation::Clamped {
        limit: f.positive("swiglu_limit")?.unwrap_or(7.0),
        alpha: f.positive("swiglu_alpha")?.unwrap_or(1.702),
    };
    if let Activation::Clamped { alpha, .. } = activation
        && !(alpha as f32).is_normal()
    {
        return Err(f.problem("swiglu_alpha", format!("{alpha} is out of range")));
    }
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(131_072);
    let ropes = vec![rope(f, dims.head_dim, max_positions)?];

    let bias = f.flag("attention_bias")?.unwrap_or(true);
    let biases = Biases {
        qkv: bias,
        o: bias,
        mlp: true,
    };
    let window = window(f, 128)?;
    let windows = windows(f, window, |i| i % 2 == 0)?;
    let layers = dims.layers(&windows, biases, |at, _| {
        let attention = Attention {
            sinks: Some(at.path("self_attn.sinks")),
            ..at.attention(0)
        };
        at.pre_norm(attention, experts(at, &mixture, activation))
    });
    let model = dims.model(layers, ropes);
    Ok(Config {
        tie_word_embeddings: tied(f)?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

/// A softmax over the chosen experts alone is one over all whose shares are divided by their sum.
fn mixture(f: &Fields<'_>, width: usize) -> Result<Mixture> {
    let either = |first: &str, second: &str, default: usize| -> Result<usize> {
        Ok(f.size(first)?.or(f.size(second)?).unwrap_or(default))
    };
    let count = either("num_local_experts", "num_experts", 128)?;
    let top = either("num_experts_per_tok", "experts_per_token", 4)?;
    if top > count {
        let problem = format!("{top} of {count} experts; a token cannot have more than there are");
        return Err(f.problem("num_experts_per_tok", problem));
    }
    Ok(Mixture {
        count,
        top,
        renormalised: true,
        width,
        shared: None,
    })
}

fn experts(at: &At<'_>, mixture: &Mixture, activation: Activation) -> Mlp<String> {
    let of = at.mixture(["mlp.router", "mlp.experts"], mixture, activation);
    let biased = |linear: Linear<String>| Linear {
        bias: Some(format!("{}.bias", linear.weight)),
        ..linear
    };
    let stack = |linear| Linear {
        by_turns: true,
        ..biased(linear)
    };
    Mlp::Experts(Experts {
        router: biased(of.router),
        each: Gated {
            gate: stack(of.each.gate),
            up: stack(of.each.up),
            down: stack(of.each.down),
            activation,
            cut: None,
        },
        ..of
    })
}

/// Without a word about rotations they are those of the released models.
fn rope(f: &Fields<'_>, head_dim: usize, max_positions: usize) -> Result<Rope> {
    let rope = Rope::flat(f, head_dim, 150_000.0, max_positions)?;
    if f.has("rope_scaling") || f.has("rope_parameters") {
        return Ok(rope);
    }
    let factor = 32.0_f64;
    Ok(Rope {
        scaling: RopeScaling::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position_embeddings: 4096.0,
            attention_factor: 0.1 * factor.ln() + 1.0,
            truncate: false,
        },
        ..rope
    })
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "gpt-oss-20b",
        r#"{"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "intermediate_size": 2880,
            "num_local_experts": 32, "num_experts_per_tok": 4, "experts_per_token": 4, "swiglu_limit": 7.0,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "attention_bias": true,
            "vocab_size": 201088, "rms_norm_eps": 1e-5, "sliding_window": 128, "initial_context_length": 4096,
            "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
            "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096},
            "max_position_embeddings": 131072, "tie_word_embeddings": false, "eos_token_id": 200002}"#,
    ),
    (
        "gpt-oss-120b",
        r#"{"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 36, "intermediate_size": 2880,
            "num_local_experts": 128, "num_experts_per_tok": 4, "experts_per_token": 4, "swiglu_limit": 7.0,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "attention_bias": true,
            "vocab_size": 201088, "rms_norm_eps": 1e-5, "sliding_window": 128, "initial_context_length": 4096,
            "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
            "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096},
            "max_position_embeddings": 131072, "tie_word_embeddings": false, "eos_token_id": 200002}"#,
    ),
];
