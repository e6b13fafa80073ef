//! Models by name: `ml list`, `ml rm`, and what `--model` means.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use hub::{Cache, Name, Settings};
use serde_json::json;

use crate::args::{ListArgs, RmArgs};
use crate::output::{note, print};
use crate::pull::size;

/// The folder of a model: a path that exists, or the name of one that was pulled.
pub(crate) fn folder(model: &Path) -> anyhow::Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_owned());
    }
    let Some(name) = model.to_str().and_then(|text| text.parse::<Name>().ok()) else {
        bail!("there is no folder {}", model.display());
    };
    match cache()?.find(&name)? {
        Some(dir) => Ok(dir),
        None => bail!(
            "there is no folder {}, and no model {name} was fetched; `ml pull {name}` does that",
            model.display()
        ),
    }
}

fn cache() -> anyhow::Result<Cache> {
    Ok(Cache::new(
        Settings::from_env()
            .context("looking for models by name")?
            .cache,
    ))
}

pub(crate) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let cache = cache()?;
    let models = cache.list()?;
    if args.json {
        let models: Vec<_> = models
            .iter()
            .map(|model| {
                json!({
                    "model": model.name.to_string(),
                    "commit": model.commit,
                    "path": model.path.display().to_string(),
                    "bytes": model.bytes,
                    "whole": model.whole,
                })
            })
            .collect();
        print(&format!("{}\n", json!(models)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if models.is_empty() {
        note(&format!("no models in {}", cache.root().display()));
    }
    let names: Vec<String> = models.iter().map(|model| model.name.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for (model, name) in models.iter().zip(&names) {
        let whole = if model.whole {
            ""
        } else {
            "  (not whole: `ml pull` it)"
        };
        print(&format!(
            "{name:<width$}  {:>8}{whole}\n",
            size(model.bytes)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn remove(args: &RmArgs) -> anyhow::Result<ExitCode> {
    let cache = cache()?;
    for name in &args.name {
        let removed = cache.remove(name)?;
        note(&match removed.snapshots {
            0 => format!("{name} is no name any more; its files have another"),
            _ => format!("removed {name}, {}", size(removed.bytes)),
        });
    }
    Ok(ExitCode::SUCCESS)
}
