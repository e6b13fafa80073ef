//! The header of one safetensors file: which tensors it has, of which dtype and shape, and where.
//!
//! The safetensors crate proves it true: every byte range lies inside the file, none overlap, and each
//! has the size that its dtype and shape ask for. A tensor that MLX cannot hold is no fault of the file,
//! which may be full of tensors that nobody asks for; so what is wrong with it is said where it is used.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use mlx_core::Dtype;
use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// A tensor as its file's header describes it.
pub(super) struct Described {
    pub(super) name: String,
    /// Why MLX cannot hold it, if that is so.
    pub(super) kind: std::result::Result<(Dtype, Vec<i32>), String>,
    /// Bytes inside the file.
    pub(super) range: Range<usize>,
}

/// Reads and validates the header of the file at `path`, which holds `bytes`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Described>> {
    let (length, metadata, unknown) = match SafeTensors::read_metadata(bytes) {
        Ok((length, metadata)) => (length, metadata, HashMap::new()),
        Err(error) => {
            let is_json = matches!(error, SafeTensorError::InvalidHeaderDeserialization(_));
            let read = is_json.then(|| with_unknown_dtypes(bytes)).flatten();
            read.ok_or_else(|| damaged(path, bytes, &error))?
        }
    };
    let data_start = 8 + length;
    let described = metadata.tensors().into_iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        let kind = match unknown.get(&name) {
            Some(dtype) => Err(unknown_dtype(dtype)),
            None => kind(info.dtype, &info.shape),
        };
        Described {
            name,
            kind,
            range: data_start + start..data_start + end,
        }
    });
    Ok(described.collect())
}

fn kind(
    dtype: safetensors::Dtype,
    shape: &[usize],
) -> std::result::Result<(Dtype, Vec<i32>), String> {
    let known = known(dtype).ok_or_else(|| unknown_dtype(&format!("{dtype:?}")))?;
    let dimensions: Option<Vec<i32>> = shape.iter().map(|&n| i32::try_from(n).ok()).collect();
    let dimensions =
        dimensions.ok_or_else(|| format!("has a dimension above 2147483647: {shape:?}"))?;
    Ok((known, dimensions))
}

fn unknown_dtype(dtype: &str) -> String {
    format!("has dtype {dtype}, which MLX does not have; convert the model")
}

fn known(dtype: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as S;
    Some(match dtype {
        S::BOOL => Dtype::Bool,
        S::U8 | S::F8_E8M0 | S::F8_E4M3 => Dtype::Uint8,
        S::I8 => Dtype::Int8,
        S::I16 => Dtype::Int16,
        S::U16 => Dtype::Uint16,
        S::F16 => Dtype::Float16,
        S::BF16 => Dtype::Bfloat16,
        S::I32 => Dtype::Int32,
        S::U32 => Dtype::Uint32,
        S::F32 => Dtype::Float32,
        S::C64 => Dtype::Complex64,
        S::F64 => Dtype::Float64,
        S::I64 => Dtype::Int64,
        S::U64 => Dtype::Uint64,
        _ => return None,
    })
}

/// The header of a file in which some dtypes are newer than the safetensors crate, with the names of
/// those dtypes by tensor; `None` if that is not what is wrong with the file.
///
/// To be checked like all others, such a tensor passes for as many bytes as it has.
fn with_unknown_dtypes(bytes: &[u8]) -> Option<(usize, Metadata, HashMap<String, String>)> {
    let length: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
    let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
    let text = bytes.get(8..8_usize.checked_add(length)?)?;
    let mut header: Map<String, Value> = serde_json::from_slice(text).ok()?;
    let mut unknown = HashMap::new();
    let mut data_end = 0;
    for (name, tensor) in header
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
    {
        let offset = |i: usize| usize::try_from(tensor["data_offsets"].get(i)?.as_u64()?).ok();
        let (start, end) = (offset(0)?, offset(1)?);
        data_end = data_end.max(end);
        let dtype = tensor["dtype"].as_str()?;
        if serde_json::from_value::<safetensors::Dtype>(json!(dtype)).is_err() {
            unknown.insert(name.clone(), dtype.to_owned());
            tensor["dtype"] = json!("U8");
            tensor["shape"] = json!([end.checked_sub(start)?]);
        }
    }
    let whole = 8_usize.checked_add(length)?.checked_add(data_end)? == bytes.len();
    let metadata = serde_json::from_value(Value::Object(header)).ok()?;
    (whole && !unknown.is_empty()).then_some((length, metadata, unknown))
}

/// Says in a user's words what the header check found.
fn damaged(path: &Path, bytes: &[u8], error: &SafeTensorError) -> Error {
    let why = match error {
        SafeTensorError::HeaderTooSmall => "is too short to be a safetensors file".to_owned(),
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            "is cut off inside its header, or is no safetensors file".to_owned()
        }
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "does not have the length that its header promises ({} bytes are there); it is truncated or damaged",
            bytes.len()
        ),
        SafeTensorError::InvalidOffset(name) => {
            format!(
                "has a header that gives tensor '{name}' bytes that overlap, leave a gap or run backwards"
            )
        }
        SafeTensorError::TensorInvalidInfo => {
            "has a header that gives a tensor more or fewer bytes than its shape and dtype take"
                .to_owned()
        }
        other => format!("has a damaged header ({other})"),
    };
    // A header that is a git-lfs pointer or an HTML page is the usual cause.
    let hint = if bytes.starts_with(b"version https://git-lfs") {
        "it is a git-lfs pointer: run `git lfs pull` in its directory"
    } else {
        "fetch the file again"
    };
    Error::checkpoint(path, format!("{why}; {hint}"))
}
