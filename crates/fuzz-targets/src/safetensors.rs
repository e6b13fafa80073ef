//! Safetensors headers and their index, compared with a configuration.
//!
//! A file of weights that begins with `{` is the header alone: its length is put before it, and as
//! many bytes after it as it promises, so that a change of the header still gives a whole file. A
//! last line such as `+8` or `-1` makes the data longer or shorter. Any other content is the file
//! as it is.

use std::path::Path;

use mlx_core::Dtype;
use models::ModelInfo;
use serde_json::Value;

use crate::check_refusal;
use crate::files::{Content, sections, with_files};

pub(crate) const FILES: [&str; 5] = [
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "config.json",
];

/// More is not written for one file.
const MOST_DATA: u64 = 1 << 20;

pub(crate) fn run(data: &[u8]) {
    let files = sections(data, &FILES).into_iter().map(|(name, content)| {
        let whole = name.ends_with(".safetensors") && content.starts_with(b"{");
        (
            name,
            if whole {
                framed(content)
            } else {
                content.into()
            },
        )
    });
    with_files(files, read);
}

fn read(dir: &Path) {
    let info = match ModelInfo::read(dir) {
        Ok(info) => info,
        Err(error) => return check_refusal(&error),
    };
    // The figures that the memory plan is made of.
    let tokens = info.max_position_embeddings.unwrap_or(1 << 20) as u64;
    // Recurrent states are there from the first token on.
    let grown = info.cache_bytes(tokens) - info.cache_bytes(0);
    assert!(grown <= info.cache_bytes_per_token() * tokens);
    for dtype in [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32] {
        assert!(info.bytes_as(Some(dtype)) > 0);
    }
    assert!(info.parameters > 0 && info.weight_bytes > 0);
}

/// The file of a header, with zeros for its data.
fn framed(content: &[u8]) -> Content<'static> {
    let (header, change) = split_change(content);
    let promised = serde_json::from_slice::<Value>(header).map_or(0, |it| end_of_data(&it));
    let length = (header.len() as u64).to_le_bytes();
    Content {
        bytes: [&length, header].concat().into(),
        zeros: promised.saturating_add_signed(change).min(MOST_DATA),
    }
}

fn split_change(content: &[u8]) -> (&[u8], i64) {
    let change = content
        .iter()
        .rposition(|byte| *byte == b'\n')
        .and_then(|at| {
            let line = std::str::from_utf8(&content[at + 1..]).ok()?;
            let number = line
                .strip_prefix('+')
                .or(line.starts_with('-').then_some(line))?;
            Some((&content[..at], number.parse().ok()?))
        });
    change.unwrap_or((content, 0))
}

/// Where the last tensor of a header ends.
fn end_of_data(header: &Value) -> u64 {
    let tensors = header.as_object().into_iter().flat_map(|it| it.values());
    let ends = tensors.filter_map(|it| it.get("data_offsets")?.get(1)?.as_u64());
    ends.max().unwrap_or(0)
}
