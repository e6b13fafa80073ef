//! `cargo xtask guest`: what somebody does who only has this repository's address.
//!
//! `cargo install --git`, a git dependency and `cargo vendor`, of what is committed, each with a
//! cargo home, a cache and a target folder that begin empty. It compiles everything three times, so
//! it is run before a release and not with every test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use build_scripts::{CACHE_VARIABLE, NATIVE_DIR_VARIABLE};

use crate::process::{cargo, root, run};

/// Options of `cargo xtask guest`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep what is made in this folder, which must not exist, instead of a temporary one
    #[arg(long)]
    keep: Option<PathBuf>,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = match &args.keep {
        Some(folder) => {
            fs::create_dir(folder).with_context(|| folder.display().to_string())?;
            folder.canonicalize()?
        }
        None => temporary.path().to_owned(),
    };
    let guest = Guest { folder };
    guest.install()?;
    guest.depend()?;
    guest.vendor()?;
    println!("guest: cargo install --git, a git dependency and cargo vendor work");
    Ok(())
}

/// A machine that has nothing yet.
struct Guest {
    folder: PathBuf,
}

impl Guest {
    /// A cargo command of that machine; `home` is the name of its cargo home.
    fn cargo(&self, home: &str, target: &str, args: &[&str]) -> Command {
        let mut command = cargo(args);
        command
            .current_dir(&self.folder)
            .env("CARGO_HOME", self.folder.join(home))
            .env("CARGO_TARGET_DIR", self.folder.join(target))
            .env(CACHE_VARIABLE, self.folder.join("cache"))
            .env_remove(NATIVE_DIR_VARIABLE);
        command
    }

    /// The repository as others see it: what is committed.
    fn address(&self) -> Result<String> {
        let clone = self.folder.join("repository");
        if !clone.exists() {
            let mut git = Command::new("git");
            git.args(["clone", "--quiet"]).arg(root()).arg(&clone);
            run(&mut git)?;
        }
        Ok(format!("file://{}", clone.display()))
    }

    fn install(&self) -> Result<()> {
        let args = ["install", "--locked", "--git", &self.address()?];
        let mut install = self.cargo("cargo-home", "target-install", &args);
        run(install.arg("--root").arg(&self.folder).arg("ml-cli"))?;
        let ml = self.folder.join("bin/ml");
        let generate = ["generate", "--temp", "0", "--prompt", "What is 17 + 25?"];
        let mut ml = Command::new(ml);
        answers(ml.args(generate).arg("--model").arg(model()))?;
        self.source_is_untouched()
    }

    /// The example of a crate outside this workspace, with the repository's address for its path.
    fn depend(&self) -> Result<()> {
        let (from, to) = (root().join("examples/downstream"), self.downstream());
        fs::create_dir_all(to.join("src"))?;
        fs::copy(from.join("src/main.rs"), to.join("src/main.rs"))?;
        let manifest = fs::read_to_string(from.join("Cargo.toml"))?;
        let path = "path = \"../../crates/ml-backend\"";
        ensure!(manifest.contains(path), "the example's manifest changed");
        let git = format!("git = \"{}\"", self.address()?);
        fs::write(to.join("Cargo.toml"), manifest.replace(path, &git))?;

        let mut build = self.cargo("cargo-home", "target-git", &["build"]);
        run(build.current_dir(&to))?;
        answers(Command::new(self.folder.join("target-git/debug/downstream")).arg(model()))?;
        self.source_is_untouched()
    }

    /// The same crate with its dependencies beside it, for a machine without a network: its cargo
    /// home is empty, and what is not a crate comes with the cache.
    fn vendor(&self) -> Result<()> {
        let downstream = self.downstream();
        let mut vendor = self.cargo("cargo-home", "target-git", &["vendor", "--locked"]);
        let settings = vendor.current_dir(&downstream).output()?;
        ensure!(
            settings.status.success(),
            "`cargo vendor` failed: {}",
            String::from_utf8_lossy(&settings.stderr).trim()
        );
        fs::create_dir_all(downstream.join(".cargo"))?;
        fs::write(downstream.join(".cargo/config.toml"), settings.stdout)?;
        let args = ["build", "--locked", "--offline"];
        let mut build = self.cargo("empty-cargo-home", "target-vendor", &args);
        run(build.current_dir(&downstream))?;
        answers(Command::new(self.folder.join("target-vendor/debug/downstream")).arg(model()))
    }

    fn downstream(&self) -> PathBuf {
        self.folder.join("downstream")
    }

    /// Nothing was written into cargo's copy of the repository.
    fn source_is_untouched(&self) -> Result<()> {
        let checkouts = self.folder.join("cargo-home/git/checkouts");
        for repository in fs::read_dir(&checkouts)? {
            for checkout in fs::read_dir(repository?.path())? {
                let mut git = Command::new("git");
                git.arg("-C").arg(checkout?.path());
                git.args(["status", "--porcelain", "--ignored"]);
                let said = String::from_utf8(git.output()?.stdout)?;
                // Cargo's own mark.
                let written: Vec<_> = said.lines().filter(|l| !l.ends_with(".cargo-ok")).collect();
                ensure!(
                    written.is_empty(),
                    "the build wrote into its source: {written:?}"
                );
            }
        }
        Ok(())
    }
}

fn model() -> PathBuf {
    root().join("assets/models/qwen3-demo")
}

/// The program, from another folder and with nothing set for it, says what 17 and 25 are.
fn answers(program: &mut Command) -> Result<()> {
    program.current_dir(Path::new("/"));
    for variable in [CACHE_VARIABLE, NATIVE_DIR_VARIABLE, "LD_LIBRARY_PATH"] {
        program.env_remove(variable);
    }
    let name = Path::new(program.get_program()).display().to_string();
    let output = program.output().with_context(|| name.clone())?;
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success() && said.contains("42"),
        "{name} says {said:?}, {}",
        error.trim()
    );
    Ok(())
}
