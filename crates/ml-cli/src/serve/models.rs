//! The models of `--model`: names and directories.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ml_server::NamedModel;

use crate::models::folder;

/// The models that the arguments name, in their order.
pub(super) fn named(arguments: &[String]) -> anyhow::Result<Vec<NamedModel>> {
    let mut models = Vec::new();
    for argument in arguments {
        let (name, model) = split(argument);
        // One that was fetched has the name that it was fetched by.
        let name = name.or_else(|| match model.exists() {
            true => None,
            false => model.to_str().map(str::to_owned),
        });
        let dir = folder(&model)?;
        let inside = folders(&dir)?;
        match (name, inside.is_empty()) {
            (Some(name), true) => models.push(NamedModel { name, dir }),
            (None, true) => models.push(by_folder(dir)?),
            (Some(_), false) => bail!(
                "{} is a folder of models; leave its name out",
                dir.display()
            ),
            (None, false) => {
                for dir in inside {
                    models.push(by_folder(dir)?);
                }
            }
        }
    }
    Ok(models)
}

/// A name before the first `=`, unless there is a file of the whole name.
fn split(argument: &str) -> (Option<String>, PathBuf) {
    match argument.split_once('=') {
        Some((name, dir))
            if !name.is_empty() && !name.contains('/') && !Path::new(argument).exists() =>
        {
            (Some(name.to_owned()), dir.into())
        }
        _ => (None, argument.into()),
    }
}

/// The model directories in a folder that is none itself.
fn folders(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_model = |dir: &Path| dir.join("config.json").is_file();
    if is_model(dir) || !dir.is_dir() {
        return Ok(Vec::new());
    }
    let cannot = || format!("cannot read {}", dir.display());
    let mut found = Vec::new();
    for entry in dir.read_dir().with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if is_model(&path) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!(
            "{} has no config.json, and no folder with one",
            dir.display()
        );
    }
    Ok(found)
}

fn by_folder(dir: PathBuf) -> anyhow::Result<NamedModel> {
    // The folder that `.` and links stand for has the name.
    let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
    let name = real.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no name; say NAME={0}", dir.display()))?;
    Ok(NamedModel {
        name: name.to_owned(),
        dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_before_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", "not-a-model"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["b", "a"] {
            std::fs::write(dir.path().join(name).join("config.json"), "{}").unwrap();
        }
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let names = |arguments: &[String]| {
            let models = named(arguments)?;
            anyhow::Ok(
                models
                    .into_iter()
                    .map(|model| model.name)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            names(&[format!("x={}", path("a")), path("b")]).unwrap(),
            ["x", "b"]
        );
        assert_eq!(names(&[path("")]).unwrap(), ["a", "b"]);
        assert!(names(&[format!("x={}", path(""))]).is_err());
        assert!(names(&[path("not-a-model")]).is_err());
    }
}
