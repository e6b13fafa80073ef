//! What `ml logits` and `ml embed` write.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;

/// A safetensors file of one tensor: the length of its header, the header, and the numbers. Written here
/// and not by the library, which wants all bytes at once: the logits may fill half of the memory.
pub(crate) fn write(
    path: &Path,
    name: &str,
    values: &[f32],
    shape: [usize; 2],
) -> std::io::Result<()> {
    let bytes = 4 * values.len();
    let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] });
    let mut header = json!({ name: tensor }).to_string();
    // The numbers begin at a multiple of 8.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for value in values {
        out.write_all(&value.to_le_bytes())?;
    }
    out.into_inner()
        .map_err(|error| error.into_error())?
        .flush()
}
