//! `ml pull`: a model from the hub, or what it would take.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use hub::{Event, Hub, Name, Settings};
use indicatif::{ProgressBar, ProgressStyle};
use ml_backend::{Device, ModelInfo};
use serde_json::json;

use crate::args::PullArgs;
use crate::output::{note, print};

/// Contexts that memory is told for, in tokens.
const CONTEXTS: [usize; 2] = [8192, 32768];

pub(crate) fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let hub = Hub::new(Settings::from_env()?);
    match args.dry_run {
        true => would_take(args, &hub),
        false => fetch(&args.name, &hub),
    }
}

fn fetch(name: &Name, hub: &Hub) -> anyhow::Result<ExitCode> {
    let bar = ProgressBar::new(0);
    let style = "{bytes:>10} of {total_bytes} {wide_bar} {binary_bytes_per_sec}, {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    let fetches = AtomicBool::new(false);
    let event = |event: Event<'_>| match event {
        Event::Begins { files: 0, .. } => {}
        Event::Begins { files, bytes } => {
            fetches.store(true, Ordering::Relaxed);
            bar.set_length(bytes);
            if !std::io::stderr().is_terminal() {
                note(&format!(
                    "fetching {files} files of {name}, {}",
                    size(bytes)
                ));
            }
        }
        Event::File(path) => bar.set_message(path.to_owned()),
        Event::Fetched(bytes) => bar.inc(bytes),
        Event::Waits(path) => bar.set_message(format!("{path}: another process fetches it")),
        Event::Checking(path) => bar.set_message(format!("{path}: checking")),
        _ => {}
    };
    let dir = hub.pull(name, &event);
    bar.finish_and_clear();
    let dir = dir?;
    note(match fetches.into_inner() {
        true => "fetched and checked; this is its folder, and --model takes the name too",
        false => "all of it was there; this is its folder, and --model takes the name too",
    });
    print(&format!("{}\n", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what fetching and running a model would take.
fn would_take(args: &PullArgs, hub: &Hub) -> anyhow::Result<ExitCode> {
    let listing = hub.look_up(&args.name)?;
    let dir = tempfile::tempdir()?;
    hub.preview(&args.name, &listing, dir.path())?;
    // A model that cannot be run is told so before it is fetched.
    let model = ModelInfo::read(dir.path())?;
    let to_fetch = hub.missing_bytes(&args.name, &listing);
    let free = hub.cache().free_bytes();
    let device = ml_backend::device_info(Device::Auto).ok();
    let memory = device.as_ref().map(|device| device.memory_bytes);
    let takes = |tokens| model.weight_bytes + model.cache_bytes(tokens);
    if args.json {
        let contexts = CONTEXTS.map(|tokens| json!({"tokens": tokens, "bytes": takes(tokens)}));
        let object = json!({
            "model": args.name.to_string(),
            "commit": listing.commit,
            "model_type": model.model_type,
            "files": listing.files.len(),
            "bytes": listing.bytes(),
            "bytes_to_fetch": to_fetch,
            "free_bytes": free,
            "left_out_bytes": listing.left_out,
            "parameters": model.parameters,
            "memory": contexts,
            "memory_of_device": memory,
        });
        print(&format!("{object}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let fits = |needed: u64, there: Option<u64>| match there {
        None => String::new(),
        Some(there) if needed <= there => format!(", fits in {}", size(there)),
        Some(there) => format!(", DOES NOT FIT in {}", size(there)),
    };
    let rows = [
        (
            "model",
            format!("{} ({} at {})", args.name, model.family, listing.commit),
        ),
        (
            "on disk",
            format!(
                "{} in {} files, {} of them to be fetched{}; {} of other files are left out",
                size(listing.bytes()),
                listing.files.len(),
                size(to_fetch),
                fits(to_fetch, free),
                size(listing.left_out)
            ),
        ),
        ("weights", size(model.weight_bytes)),
    ];
    let mut text: String = rows
        .iter()
        .map(|(name, value)| format!("{name:<14}{value}\n"))
        .collect();
    for tokens in CONTEXTS {
        let name = format!("with {}k", tokens / 1024);
        let bytes = takes(tokens);
        text.push_str(&format!(
            "{name:<14}{} of memory{}\n",
            size(bytes),
            fits(bytes, memory)
        ));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes as people say them.
pub(crate) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        _ if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        _ if bytes >= 1e6 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.0} kB", bytes / 1e3),
    }
}
