//! The rounds, and what the process holds after them.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ml_backend::{Device, Dtype, MlxBackend, Options};
use models::states::live_pages;

/// Tells glibc to keep nothing of what is freed. Of each size it keeps seven blocks for each thread, which
/// fill over hundreds of rounds, and of each thread's heap its end, which depends on the order in which threads
/// free; beside a small model both are more than 2%. Of a heap for all threads the end goes back.
const KEEP_NOTHING: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=131072:\
     glibc.malloc.trim_threshold=131072",
);
/// How much more the end may hold than the tenth round left.
const TOLERANCE: f64 = 0.02;
/// Pages of programs and files come and go with what else the system does: so much more they may be. (A
/// model's weights are more.)
const OF_FILES: u64 = 1_000_000;
/// The round that the end is compared with: by then every buffer and thread is there.
const SETTLED: usize = 10;
/// Tokens of each answer.
const ANSWER: usize = 64;

/// Runs this program again where glibc keeps nothing, which it is told before it starts, so that what is
/// measured is what the program holds. `None` in the program that was run.
pub(crate) fn again() -> Result<Option<ExitStatus>> {
    let (name, value) = KEEP_NOTHING;
    if std::env::var_os(name).is_some_and(|set| set == value) {
        return Ok(None);
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(name, value);
    Ok(Some(command.status()?))
}

/// What is loaded, and on what.
pub(crate) struct Soak<'a> {
    /// Model directories.
    pub(crate) models: &'a [PathBuf],
    pub(crate) device: Device,
    pub(crate) plain_mlx: bool,
    /// Tokens of the prompt of each load.
    pub(crate) load_prompt: usize,
    /// Tokens of the longest prompt of the generations.
    pub(crate) longest_prompt: usize,
}

impl Soak<'_> {
    /// Loads the models in turn, each to generate and to go.
    pub(crate) fn loads(&self, curve: &mut Curve<'_>) -> Result<()> {
        let mut random = Random(1);
        for (round, model) in (1..=curve.rounds).zip(self.models.iter().cycle()) {
            let backend = self.load(model)?;
            generate(&backend, &mut random, self.load_prompt, round)?;
            drop(backend);
            curve.add(round)?;
        }
        Ok(())
    }

    /// Loads the first model, to generate again and again. The prompts are of random lengths; those
    /// before a point of the curve are the longest, so that points that are compared have a cache of
    /// one size.
    pub(crate) fn generations(&self, curve: &mut Curve<'_>) -> Result<()> {
        let model = self.models.first().context("no model was named")?;
        let backend = self.load(model)?;
        let mut random = Random(2);
        for round in 1..=curve.rounds {
            let prompt = match curve.has_point(round) {
                true => self.longest_prompt,
                false => 1 + random.below(self.longest_prompt),
            };
            generate(&backend, &mut random, prompt, round)?;
            curve.add(round)?;
        }
        Ok(())
    }

    fn load(&self, model: &PathBuf) -> Result<MlxBackend> {
        // What is kept of prompts is soon as much as it may be, also of the tiny models that MLX's operations get.
        let kept = if self.plain_mlx { 256 << 10 } else { 4 << 20 };
        let mut builder = MlxBackend::builder()
            .prefix_cache(kept)
            .device(self.device)
            .plain_mlx(self.plain_mlx);
        if self.plain_mlx {
            // BLAS multiplies only these; MLX's products of others take ten times as long.
            builder = builder.dtype(Some(Dtype::Float32));
        }
        Ok(builder.load(model)?)
    }
}

/// Continues a prompt of so many random tokens. Every other time the sampler has everything to do.
fn generate(backend: &MlxBackend, random: &mut Random, prompt: usize, round: usize) -> Result<()> {
    let vocabulary = backend.info().model.vocab_size;
    let ids: Vec<u32> = (0..prompt)
        .map(|_| random.below(vocabulary) as u32)
        .collect();
    let mut options = Options::new()
        .temperature(0.0)
        .max_tokens(ANSWER)
        .ignore_eos(true);
    if round.is_multiple_of(2) {
        options = options
            .temperature(0.8)
            .top_p(0.9)
            .repetition_penalty(1.1)
            .seed(round as u64);
    }
    let generation = backend.generate_ids(&ids, &options)?;
    let tokens = generation.token_ids.len();
    ensure!(tokens == ANSWER, "{tokens} of {ANSWER} tokens came");
    Ok(())
}

/// Pages of keys and values that are left when the models have gone. A worker may let go of what it used a moment
/// after the result is there.
pub(crate) fn pages_left() -> usize {
    let mut left = live_pages();
    for _ in 0..1000 {
        if left == 0 {
            break;
        }
        sleep(Duration::from_millis(1));
        left = live_pages();
    }
    left
}

/// What the process holds after some of its rounds.
pub(crate) struct Curve<'a> {
    what: &'static str,
    rounds: usize,
    /// Rounds between two points.
    step: usize,
    settled: Option<Held>,
    last: Option<Held>,
    begun: Instant,
    print: Box<dyn FnMut(String) + 'a>,
}

impl<'a> Curve<'a> {
    /// Of `rounds` rounds, of which about `points` are printed.
    pub(crate) fn new(
        what: &'static str,
        rounds: usize,
        points: usize,
        print: impl FnMut(String) + 'a,
    ) -> Self {
        Self {
            what,
            rounds,
            step: rounds.div_ceil(points.max(1)),
            settled: None,
            last: None,
            begun: Instant::now(),
            print: Box::new(print),
        }
    }

    fn has_point(&self, round: usize) -> bool {
        round.is_multiple_of(self.step) || round == SETTLED || round == self.rounds
    }

    /// After `round` rounds.
    fn add(&mut self, round: usize) -> Result<()> {
        if !self.has_point(round) {
            return Ok(());
        }
        let held = Held::now()?;
        if round == SETTLED {
            self.settled = Some(held);
        }
        self.last = Some(held);
        let (what, seconds) = (self.what, self.begun.elapsed().as_secs());
        (self.print)(format!("{what} {round:>6}: {held} ({seconds} s)"));
        Ok(())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict {
            what: self.what,
            settled: self.settled,
            last: self.last,
        }
    }
}

/// Whether a curve ends where it was.
pub(crate) struct Verdict {
    what: &'static str,
    settled: Option<Held>,
    last: Option<Held>,
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        let (Some(settled), Some(last)) = (self.settled, self.last) else {
            return false;
        };
        let allowed = (settled.resident as f64 * TOLERANCE) as u64;
        last.threads <= settled.threads
            && last.anonymous <= settled.anonymous + allowed
            && last.resident <= settled.resident + allowed + OF_FILES
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what;
        let (Some(settled), Some(last)) = (self.settled, self.last) else {
            return write!(f, "{what}: too few, {SETTLED} or more are needed");
        };
        let word = match self.holds() {
            true => "holds",
            false => "GROWS",
        };
        let more = last.anonymous as f64 - settled.anonymous as f64;
        let percent = 100.0 * more / settled.resident as f64;
        write!(
            f,
            "{what}: {word}; {settled} after {SETTLED}, {last} in the end, {percent:+.2}%"
        )
    }
}

/// What a process has of its system.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    threads: u64,
    /// Bytes in memory.
    resident: u64,
    /// Those of them that are no file's.
    anonymous: u64,
}

impl Held {
    /// This process, now.
    pub(crate) fn now() -> Result<Self> {
        let status = read("/proc/self/status")?;
        // Exact, which the numbers in `status` are not; older kernels lack it.
        let (table, names) = match read("/proc/self/smaps_rollup") {
            Ok(rollup) => (rollup, ["Rss:", "Anonymous:"]),
            Err(_) => (read("/proc/self/status")?, ["VmRSS:", "RssAnon:"]),
        };
        Ok(Self {
            threads: number(&status, "Threads:")?,
            resident: number(&table, names[0])? * 1024,
            anonymous: number(&table, names[1])? * 1024,
        })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [resident, anonymous] = [self.resident, self.anonymous].map(|bytes| bytes as f64 / 1e6);
        let threads = self.threads;
        write!(
            f,
            "{threads} threads, {resident:.1} MB, {anonymous:.2} of them no file's"
        )
    }
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{file} (only Linux has it)"))
}

/// The number behind `name` in one of Linux's tables.
fn number(table: &str, name: &str) -> Result<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    let word = word.with_context(|| format!("no {name} in /proc"))?;
    Ok(word.parse()?)
}

/// A 64-bit linear congruential generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n.max(1) as u64) as usize
    }
}
