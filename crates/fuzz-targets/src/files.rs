//! Several files in one input: each begins with a line `=== NAME`. What comes before the first such
//! line is the first file, so that a file alone is an input too.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use tempfile::TempDir;

const HEADING: &[u8] = b"=== ";

/// The files of an input: name and content. Those of other names than `names` are left out, and of
/// several files of one name the last counts.
pub(crate) fn sections<'data>(
    data: &'data [u8],
    names: &[&'static str],
) -> Vec<(&'static str, &'data [u8])> {
    let mut found: Vec<(&'static str, &[u8])> = Vec::new();
    for (heading, range) in parts(data) {
        let known = match heading {
            None => names.first(),
            Some(heading) => names.iter().find(|it| it.as_bytes() == heading),
        };
        if let Some(name) = known {
            found.retain(|(other, _)| other != name);
            found.push((name, &data[range]));
        }
    }
    found
}

/// Where there is JSON in an input of any target: an object or a list that is a file of its own.
#[must_use]
pub fn json_files(data: &[u8]) -> Vec<Range<usize>> {
    let ranges = parts(data).into_iter().map(|(_, range)| range);
    ranges
        .filter(|range| matches!(data[range.clone()].trim_ascii_start(), [b'{' | b'[', ..]))
        .collect()
}

/// What stands under each heading, without the line break at its end; `None` is the heading of what
/// comes before the first.
fn parts(data: &[u8]) -> Vec<(Option<&[u8]>, Range<usize>)> {
    let mut parts = Vec::new();
    let (mut heading, mut start, mut at) = (None, 0, 0);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if let Some(next) = line.strip_prefix(HEADING) {
            if at > 0 {
                parts.push((heading, start..start.max(at - 1)));
            }
            heading = Some(next.trim_ascii_end());
            start = at + line.len();
        }
        at += line.len();
    }
    let end = at - usize::from(heading.is_some() && at > start && data.ends_with(b"\n"));
    parts.push((heading, start..end));
    parts
}

/// An input of several files.
pub(crate) fn join(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (name, content) in files {
        data.extend([HEADING, name.as_bytes(), b"\n", content, b"\n"].concat());
    }
    data
}

/// A temporary folder that is used again for the next input.
struct Folder {
    dir: TempDir,
    present: HashSet<&'static str>,
}

thread_local! {
    static FOLDER: RefCell<Option<Folder>> = const { RefCell::new(None) };
}

/// What a file holds.
pub(crate) struct Content<'data> {
    pub(crate) bytes: Cow<'data, [u8]>,
    /// Behind them. The system need not write them out.
    pub(crate) zeros: u64,
}

impl<'data> From<&'data [u8]> for Content<'data> {
    fn from(bytes: &'data [u8]) -> Self {
        Self {
            bytes: bytes.into(),
            zeros: 0,
        }
    }
}

/// Calls `then` with a folder that holds these files and no others.
///
/// # Panics
/// Where the machine has no room for them.
pub(crate) fn with_files<'data, C: Into<Content<'data>>>(
    files: impl IntoIterator<Item = (&'static str, C)>,
    then: impl FnOnce(&Path),
) {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| Folder {
            dir: tempfile::tempdir().expect("a temporary folder"),
            present: HashSet::new(),
        });
        let dir = folder.dir.path();
        let mut former = std::mem::take(&mut folder.present);
        for (name, content) in files {
            write(&dir.join(name), &content.into()).expect("a file in the temporary folder");
            former.remove(name);
            folder.present.insert(name);
        }
        for name in former {
            fs::remove_file(dir.join(name)).expect("a file of before");
        }
        then(dir);
    });
}

fn write(path: &Path, content: &Content<'_>) -> io::Result<()> {
    let mut file = match File::create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            File::create(path)?
        }
        other => other?,
    };
    file.write_all(&content.bytes)?;
    if content.zeros > 0 {
        file.set_len(content.bytes.len() as u64 + content.zeros)?;
    }
    Ok(())
}
