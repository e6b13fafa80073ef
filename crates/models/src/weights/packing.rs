//! How a matrix is stored, as its tensors say.
//!
//! Of a quantized matrix the shapes of packed words and scales give bits and group, since the number of
//! columns is known; scales that are bytes belong to the one float format of those bits and groups,
//! others to affine. The configuration need not name the layer, nor name it as the file does: mlx-lm
//! infers in the same way (`infer_quant_config`). What it does say of a layer by its name in the file
//! must be true.

use arch::{Config, LayerQuantization, Mode, Scheme, unsupported};
use mlx_core::Dtype;

use super::{Checkpoint, Stored, TensorEntry};
use crate::{Error, Result};

/// How the matrix of `rows` outputs and `columns` inputs at `path` is stored, or the stack of as many as
/// `experts` says. That it is there, and its exact shapes, are for the caller to check.
pub(super) fn stored(
    config: &Config,
    checkpoint: &Checkpoint,
    path: &str,
    experts: Option<usize>,
    [rows, columns]: [usize; 2],
) -> Result<Stored> {
    let (weight, scales) = (format!("{path}.weight"), format!("{path}.scales"));
    let bad = |name: &str, problem: String| Error::tensor(checkpoint.dir(), name, problem);
    let Some(words) = checkpoint.find(&weight)? else {
        return Ok(Stored::Dense);
    };
    let scales_entry = match (words.dtype, checkpoint.find(&scales)?) {
        (Dtype::Uint32, Some(entry)) => entry,
        (Dtype::Uint32, None) => {
            return Err(bad(
                &weight,
                format!("is quantized, but '{scales}' is missing"),
            ));
        }
        (_, None) => return Ok(Stored::Dense),
        (other, Some(_)) => {
            let problem =
                format!("has dtype {other}, but there are scales for it; expected uint32");
            return Err(bad(&weight, problem));
        }
    };
    let Some(quantization) = &config.quantization else {
        let problem = "is there, but config.json has no 'quantization'".to_owned();
        return Err(bad(&scales, problem));
    };
    // A second scale for the whole tensor, which MLX's product has no place for.
    let global = format!("{path}.global_scale");
    if checkpoint.has(&global) {
        return Err(bad(
            &global,
            "is not supported; convert the model without it".to_owned(),
        ));
    }
    let found = inferred(words, scales_entry, experts, [rows, columns]).ok_or_else(|| {
        let problem = format!(
            "has shape {:?} and scales {:?}; config.json asks for {rows} rows of {columns} columns",
            words.shape, scales_entry.shape
        );
        bad(&weight, problem)
    })?;
    if !found.is_supported() {
        return Err(bad(
            &weight,
            format!("cannot be read: {}", unsupported(found)),
        ));
    }
    match quantization.layer(path) {
        Some(LayerQuantization::Dense) => {
            let problem = "is there, but config.json says that this layer is not quantized";
            Err(bad(&scales, problem.to_owned()))
        }
        Some(LayerQuantization::Unusable(problem)) => {
            Err(Error::config(&config.path, problem.clone()))
        }
        Some(LayerQuantization::Packed(said)) if *said != found => {
            let problem = format!("is packed as {found}; config.json says {said} of this layer");
            Err(bad(&weight, problem))
        }
        _ => Ok(Stored::Quantized(found)),
    }
}

/// The scheme of `[rows, columns * bits / 32]` words and `[rows, columns / group]` scales, of a stack with an
/// axis in front; whether MLX has
/// it is another question.
fn inferred(
    words: &TensorEntry,
    scales: &TensorEntry,
    experts: Option<usize>,
    [rows, columns]: [usize; 2],
) -> Option<Scheme> {
    let width = |entry: &TensorEntry| {
        let (width, outer) = entry.shape.split_last()?;
        let outer = outer.iter().map(|&n| n as usize);
        let fits = outer.eq(experts.into_iter().chain([rows])) && *width > 0;
        fits.then_some(*width as usize)
    };
    let (words, groups) = (width(words)?, width(scales)?);
    let exact = |a: usize, b: usize| a.is_multiple_of(b).then_some(a / b);
    let bits = exact(words.checked_mul(32)?, columns)?;
    let group_size = exact(columns, groups)?;
    let (bits, group_size) = (i32::try_from(bits).ok()?, i32::try_from(group_size).ok()?);
    let mode = match (scales.dtype, bits, group_size) {
        (Dtype::Uint8, 4, 16) => Mode::Nvfp4,
        (Dtype::Uint8, 8, _) => Mode::Mxfp8,
        (Dtype::Uint8, ..) => Mode::Mxfp4,
        _ => Mode::Affine,
    };
    Some(Scheme {
        mode,
        group_size,
        bits,
    })
}

/// Names that other programs give to the parts of a quantized matrix.
const FOREIGN: [&str; 5] = [
    "qweight",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "weight.absmax",
];

/// What to say of the matrix at `path`, which cannot be used, if that is because another program
/// quantized it.
pub(super) fn foreign(config: &Config, checkpoint: &Checkpoint, path: &str) -> Option<Error> {
    let there: Vec<&str> = checkpoint.below(path).collect();
    let refusal = config
        .quantization
        .as_ref()
        .and_then(|q| q.refusal.as_ref());
    if let (Some(refusal), false) = (refusal, there.is_empty()) {
        return Some(Error::config(&config.path, refusal.clone()));
    }
    let name = FOREIGN.iter().find(|name| there.contains(name))?;
    let problem = "is of another program's quantization, which is not supported; use the \
                   unquantized model, or convert that with mlx_lm.convert";
    Some(Error::tensor(
        checkpoint.dir(),
        &format!("{path}.{name}"),
        problem,
    ))
}
