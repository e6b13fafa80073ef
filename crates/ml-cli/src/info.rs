//! `ml info`: what a model directory holds. The model is not loaded; where the native library is
//! missing, everything but the device is shown.

use std::process::ExitCode;

use ml_backend::{Advice, Device, DeviceInfo, DeviceKind, ModelInfo};
use serde_json::{Value, json};

use crate::args::InfoArgs;
use crate::models;
use crate::output::{note, print};
use crate::session::device_line;

pub(crate) fn run(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let model = ModelInfo::read(models::folder(&args.model.model)?)?;
    for warning in &model.warnings {
        note(&format!("warning: {warning}"));
    }
    let device = ml_backend::device_info(args.model.load.device());
    let device = match device {
        // A device that was asked for by name has to be there.
        Err(error) if args.model.load.device() != Device::Auto => return Err(error.into()),
        device => device.map_err(|error| error.to_string()),
    };
    if let Ok(device) = &device {
        note(&device_line(device));
    }
    let text = if args.json {
        as_json(args, &model, &device)
    } else {
        as_text(&model, &device)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(model: &ModelInfo, device: &Result<DeviceInfo, String>) -> String {
    let window = match model.sliding_window {
        Some(window) => format!("{window} tokens in {} layers", model.sliding_layers),
        None => "none".to_owned(),
    };
    let kinds = match device {
        Ok(device) => vec![device.kind],
        Err(_) => vec![DeviceKind::Cpu, DeviceKind::Cuda, DeviceKind::Metal],
    };
    let plan = |kind: &DeviceKind| {
        let steps = model.plan(*kind).iter().map(ToString::to_string);
        format!("{kind}: {}", steps.collect::<Vec<_>>().join("; "))
    };
    let plan = kinds.iter().map(plan).collect::<Vec<_>>().join(" | ");
    let (device, mlx) = match device {
        Ok(device) => (
            format!(
                "{} ({}), {}",
                device.kind,
                device.name,
                gigabytes(device.memory_bytes)
            ),
            device.mlx_version.clone(),
        ),
        Err(reason) => (format!("none: {reason}"), "not loaded".to_owned()),
    };
    let rows = [
        (
            "architecture",
            format!("{} (model_type {})", model.family, model.model_type),
        ),
        (
            "made for",
            match model.bidirectional {
                true => "embeddings (its tokens see those behind them)".to_owned(),
                false => "text".to_owned(),
            },
        ),
        ("layers", model.layers.to_string()),
        ("hidden size", model.hidden_size.to_string()),
        (
            "attention",
            format!(
                "{} query heads, {} key-value heads, {} wide",
                model.heads, model.kv_heads, model.head_dim
            ),
        ),
        ("window", window),
        ("vocabulary", model.vocab_size.to_string()),
        ("context", context(model)),
        ("advice", advice(&model.advice)),
        ("parameters", parameters(model)),
        (
            "quantization",
            model.quantization.clone().unwrap_or_else(|| "none".into()),
        ),
        ("dtype", model.dtype.to_string()),
        (
            "weights",
            format!(
                "{} bytes, files: {}",
                grouped(model.weight_bytes),
                model.files
            ),
        ),
        ("draft head", drafts(model)),
        (
            "cache",
            format!(
                "{} bytes a token, {} for 32k",
                grouped(model.cache_bytes_per_token),
                grouped(model.cache_bytes(32768))
            ),
        ),
        ("plan", plan),
        ("device", device),
        ("MLX", mlx),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<14}{value}\n"))
        .collect()
}

/// A head that drafts tokens is named, so that nobody takes its bytes for the model's.
fn drafts(model: &ModelInfo) -> String {
    match model.draft_tensors {
        0 => "none".to_owned(),
        count => format!("{count} tensors (mtp.*), not used"),
    }
}

fn as_json(args: &InfoArgs, model: &ModelInfo, device: &Result<DeviceInfo, String>) -> String {
    let plan = [DeviceKind::Cpu, DeviceKind::Cuda, DeviceKind::Metal].map(|kind| {
        let steps = model
            .plan(kind)
            .iter()
            .map(|step| json!({"part": step.part, "by": step.by, "slower": step.slower}));
        (kind.to_string(), steps.collect::<Vec<_>>())
    });
    let plan: serde_json::Map<String, Value> = plan
        .into_iter()
        .map(|(kind, steps)| (kind, steps.into()))
        .collect();
    let object = json!({
        "model": args.model.model.display().to_string(),
        "model_type": model.model_type,
        "bidirectional": model.bidirectional,
        "layers": model.layers,
        "sliding_layers": model.sliding_layers,
        "sliding_window": model.sliding_window,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "tied_head": model.tied_head,
        "max_position_embeddings": model.max_position_embeddings,
        "context": model.context,
        "advice": {
            "do_sample": model.advice.do_sample,
            "temperature": model.advice.temperature.map(shortest),
            "top_k": model.advice.top_k,
            "top_p": model.advice.top_p.map(shortest),
            "min_p": model.advice.min_p.map(shortest),
            "repetition_penalty": model.advice.repetition_penalty.map(shortest),
        },
        "warnings": model.warnings,
        "draft_tensors": model.draft_tensors,
        "plan": plan,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "quantization": model.quantization,
        "dtype": model.dtype.to_string(),
        "weight_bytes": model.weight_bytes,
        "weight_files": model.files,
        "cache_bytes_per_token": model.cache_bytes_per_token,
        "cache_bytes_32k": model.cache_bytes(32768),
        "eos_token_ids": model.eos_token_ids,
        "device": device.as_ref().ok().map(|device| json!({
            "kind": device.kind.to_string(),
            "name": device.name,
            "memory_bytes": device.memory_bytes,
            "library": device.library.display().to_string(),
        })),
        "device_error": device.as_ref().err(),
        "mlx_version": device.as_ref().ok().map(|device| &device.mlx_version),
    });
    format!("{object}\n")
}

/// How long prompt and answer may be, and where that comes from if it is not the model's own context.
fn context(model: &ModelInfo) -> String {
    match (model.context, model.max_position_embeddings) {
        (None, _) => "not said".to_owned(),
        (Some(context), Some(own)) if own != context => {
            format!("{context} tokens ({own} without the scaling of its rotary embedding)")
        }
        (Some(context), _) => format!("{context} tokens"),
    }
}

/// How many weights there are, and how many a token of a mixture of experts uses.
fn parameters(model: &ModelInfo) -> String {
    let all = grouped(model.parameters);
    match model.active_parameters == model.parameters {
        true => all,
        false => format!(
            "{all}, of which a token uses {}",
            grouped(model.active_parameters)
        ),
    }
}

/// What the model's files advise for sampling, as the options that ask for the same.
fn advice(advice: &Advice) -> String {
    let number = |name: &str, value: Option<f32>| value.map(|value| format!("{name} {value}"));
    let greedy = (advice.do_sample == Some(false)).then(|| "greedy (do_sample false)".to_owned());
    let all = [
        greedy,
        number("temperature", advice.temperature),
        advice.top_k.map(|k| format!("top_k {k}")),
        number("top_p", advice.top_p),
        number("min_p", advice.min_p),
        number("repetition_penalty", advice.repetition_penalty),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}

/// A float32 as the decimal number that is nearest to it: 0.6 and not 0.6000000238418579.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Bytes in units of 10⁹ bytes.
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
