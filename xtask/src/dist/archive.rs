//! A compressed tar file that depends on the contents alone: entries in order of name, without times
//! and owners. The same inputs give the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, Header};

/// A file of the archive.
pub(super) struct Entry {
    /// Its path in the archive's folder.
    name: String,
    content: Content,
    mode: u32,
}

enum Content {
    File(PathBuf),
    Text(String),
}

impl Entry {
    /// A file with the contents of another.
    pub(super) fn file(name: impl Into<String>, source: PathBuf) -> Self {
        Self {
            name: name.into(),
            content: Content::File(source),
            mode: 0o644,
        }
    }

    /// As [`Entry::file`], and one can run it.
    pub(super) fn program(name: impl Into<String>, source: PathBuf) -> Self {
        let mode = 0o755;
        Self {
            mode,
            ..Self::file(name, source)
        }
    }

    /// A file of this text.
    pub(super) fn text(name: impl Into<String>, text: String) -> Self {
        Self {
            name: name.into(),
            content: Content::Text(text),
            mode: 0o644,
        }
    }
}

/// Adds every file below `folder` as `name/...`.
pub(super) fn add_folder(entries: &mut Vec<Entry>, name: &str, folder: &Path) -> Result<()> {
    let listing = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in listing {
        let entry = entry?;
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        // Follows links: the archive has files.
        if entry.path().is_dir() {
            add_folder(entries, &name, &entry.path())?;
        } else {
            entries.push(Entry::file(name, entry.path()));
        }
    }
    Ok(())
}

/// Writes the archive `file`, in which all is below the folder `root`. A file of that name is
/// replaced when the new one is whole.
pub(super) fn write(file: &Path, root: &str, mut entries: Vec<Entry>) -> Result<()> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let part = file.with_extension("part");
    let compressed = GzBuilder::new()
        .mtime(0)
        .write(BufWriter::new(File::create(&part)?), Compression::default());
    let mut tar = Builder::new(compressed);
    for entry in &entries {
        let name = format!("{root}/{}", entry.name);
        match &entry.content {
            Content::Text(text) => {
                append(
                    &mut tar,
                    &name,
                    entry.mode,
                    text.len() as u64,
                    text.as_bytes(),
                )?;
            }
            Content::File(source) => {
                let from = || source.display().to_string();
                let open = File::open(source).with_context(from)?;
                let length = open.metadata().with_context(from)?.len();
                append(&mut tar, &name, entry.mode, length, open).with_context(from)?;
            }
        }
    }
    tar.into_inner()?.finish()?.flush()?;
    std::fs::rename(&part, file)?;
    Ok(())
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    name: &str,
    mode: u32,
    length: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(length);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, content)
}

/// Unpacks `file` into `folder`.
pub(super) fn unpack(file: &Path, folder: &Path) -> Result<()> {
    let open = File::open(file).with_context(|| file.display().to_string())?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(open));
    Ok(tar.unpack(folder)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_same_files_make_the_same_archive_whenever_and_in_whatever_order() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(120);
        let make = |folder: &str, names: [&str; 3]| {
            let source = dir.path().join(folder);
            std::fs::create_dir_all(source.join("deep")).unwrap();
            for name in names {
                let path = source.join("deep").join(name);
                std::fs::write(&path, format!("contents of {name}")).unwrap();
                let then = std::time::SystemTime::UNIX_EPOCH;
                let age = std::time::Duration::from_secs(1000 * folder.len() as u64);
                File::open(&path).unwrap().set_modified(then + age).unwrap();
            }
            let mut entries = Vec::new();
            add_folder(&mut entries, "all", &source).unwrap();
            entries.push(Entry::program("run", source.join("deep/b")));
            entries.push(Entry::text("README", "Read me.".to_owned()));
            if names[0] == "b" {
                entries.reverse();
            }
            let file = dir.path().join(format!("{folder}.tar.gz"));
            write(&file, "root", entries).unwrap();
            file
        };
        let first = make("a", ["a", "b", &long]);
        let second = make("another", ["b", &long, "a"]);
        assert_eq!(
            std::fs::read(&first).unwrap(),
            std::fs::read(second).unwrap()
        );

        let out = dir.path().join("out");
        unpack(&first, &out).unwrap();
        let read = |name: &str| std::fs::read_to_string(out.join("root").join(name)).unwrap();
        assert_eq!(read("README"), "Read me.");
        let deep = format!("all/deep/{long}");
        assert_eq!(read(&deep), format!("contents of {long}"));
        let mode = |name: &str| {
            let path = out.join("root").join(name);
            path.metadata().unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("run"), mode("README")), (0o755, 0o644));
    }
}
