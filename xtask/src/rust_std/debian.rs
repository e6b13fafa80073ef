//! The source of Rust's standard library out of Debian's package `rust-src`.
//!
//! apt fetches it, from the mirror that this machine is set to, and checks its signature; a package
//! tree of our own keeps other suites away from the machine's lists. Backports keep the packages of
//! versions that the suite itself no longer has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::run;

/// Where one version or another may be.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder `library` of this version's source, unpacked below `folder`, which is ours alone.
pub(super) fn rust_src(version: &str, folder: &Path) -> Result<PathBuf> {
    let apt = Apt::new(&folder.join("apt"))?;
    run(&mut apt.command("apt-get", &["--quiet", "update"]))?;
    let package = format!("rust-src={}", apt.version_of("rust-src", version)?);
    run(&mut apt.command("apt-get", &["--quiet", "download", &package]))?;
    let mut files = fs::read_dir(&apt.folder)?.flatten();
    let file = files.find(|file| file.file_name().to_string_lossy().ends_with(".deb"));
    let file = file.context("apt-get download left no package")?.path();
    let unpacked = folder.join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").args([&file, &unpacked]))?;
    let library = unpacked.join(format!("usr/src/rustc-{version}/library"));
    ensure!(library.is_dir(), "{package} has no {}", library.display());
    Ok(library)
}

/// A package tree of our own.
struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        let mirror = mirror()?;
        for below in ["state/lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(folder.join(below))?;
        }
        fs::write(folder.join("state/status"), "")?;
        let signed = if Path::new(KEYRING).is_file() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        let lines = SUITES.map(|suite| format!("deb {signed}{mirror} {suite} main\n"));
        fs::write(folder.join("sources.list"), lines.concat())?;
        let path = folder.display();
        // A mirror that stands still is as good as another: what it has is signed all the same.
        let config = format!(
            "Dir::State \"{path}/state\";\n\
             Dir::State::status \"{path}/state/status\";\n\
             Dir::Cache \"{path}/cache\";\n\
             Dir::Etc::sourcelist \"{path}/sources.list\";\n\
             Dir::Etc::sourceparts \"{path}/parts\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             Acquire::Check-Valid-Until \"false\";\n\
             APT::Sandbox::User \"\";\n"
        );
        let file = folder.join("apt.conf");
        fs::write(&file, config)?;
        Ok(Self {
            folder: folder.to_owned(),
            config: file,
        })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.folder);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// Debian's version of `package` that is this version of what it packs.
    fn version_of(&self, package: &str, version: &str) -> Result<String> {
        let listed = text(&mut self.command("apt-cache", &["madison", package]))?;
        let mut versions = listed.lines().filter_map(|line| line.split('|').nth(1));
        let found = versions.find(|found| {
            let rest = found.trim().strip_prefix(version);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let found = found.with_context(|| format!("Debian has no {package} {version}"))?;
        Ok(found.trim().to_owned())
    }
}

/// The mirror of Debian that this machine is set to.
fn mirror() -> Result<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(REPO_URI)"]);
    ask.args(["Created-By: Packages", "Origin: Debian", "Label: Debian"]);
    let listed = text(&mut ask)?;
    match listed.lines().next() {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("apt knows no mirror of Debian, or `apt-get update` was not run yet"),
    }
}

/// What a command prints.
fn text(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "{name} failed");
    String::from_utf8(output.stdout).with_context(|| format!("{name} did not print text"))
}
