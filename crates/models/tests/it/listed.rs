//! The CUDA kernel that goes through a list of steps, run on this machine as C++, every thread of it a fiber: its logits
//! equal those that transformers computed in float64.

#[path = "../../../kernels/tests/it/decode_emulated/compile.rs"]
mod compile;

use arch::State;
use mlx_core::Dtype;
use mlx_core::host_op::Pinned;
use models::Model;

use crate::common::{Expected, cases, load, open_device, relative_error};
use compile::{Library, compiler};

/// In float32, for every position.
const BOUND: f64 = 1e-4;
const MULTIPROCESSORS: u32 = 3;
const WARPS: u32 = 4;
/// Tokens that are looked at: enough for windows to come round.
const TOKENS: usize = 40;

/// A sequence's keys and values.
struct Caches {
    /// Float32 `[heads, places, dim]` of each, state after state.
    buffers: Vec<Vec<f32>>,
    window: usize,
}

impl Caches {
    fn new(states: &[State]) -> Self {
        let keys = || {
            states.iter().map(|state| match state {
                State::Keys(keys) => keys,
                State::Recurrent(_) => panic!("a list has no recurrent states"),
            })
        };
        let window = keys().find_map(|keys| keys.window).unwrap_or(1);
        let sizes = keys().map(|keys| {
            let places = if keys.window.is_some() {
                window
            } else {
                TOKENS
            };
            keys.heads * places * keys.head_dim
        });
        // What no token has written is not a number.
        let buffers = sizes.flat_map(|size| [vec![f32::NAN; size], vec![f32::NAN; size]]);
        Self {
            buffers: buffers.collect(),
            window,
        }
    }
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr() as u64
}

/// The logits of `ids`, one behind the other.
fn emulate(compiler: &str, name: &str, model: &Model, ids: &[i32]) -> Option<Vec<f32>> {
    let plan = model.listed(MULTIPROCESSORS, WARPS).unwrap()?;
    let mut library = Library::compile(compiler, name, &plan.source(), &["decode_steps"]);
    let pinned: Vec<Pinned> = plan
        .arrays()
        .iter()
        .map(|a| Pinned::new(a).unwrap())
        .collect();
    let table: Vec<u64> = pinned
        .iter()
        .map(|p| address(p.view().bytes().unwrap()))
        .collect();
    let list = plan.numbers();
    let scratch = vec![0u32; plan.scratch_words()];
    let mut caches = Caches::new(&model.config().model.states);
    let addresses: Vec<u64> = caches
        .buffers
        .iter_mut()
        .map(|b| b.as_mut_ptr() as u64)
        .collect();
    let vocab = model.info().vocab_size;
    let mut all = Vec::new();
    for (position, id) in ids.iter().enumerate() {
        let (logits, done) = (vec![f32::NAN; vocab], [0u8]);
        let window = caches.window;
        let numbers = [
            plan.count(),
            position,
            TOKENS,
            position % window,
            window.min(position + 1),
            window,
        ];
        let mut arguments = vec![address(&[*id]), address(&list), address(&table)];
        let id = [*id];
        arguments[0] = address(&id);
        arguments.extend([
            address(&addresses),
            address(&scratch),
            0,
            address(&logits),
            address(&done),
        ]);
        arguments.extend(numbers.map(|n| n as u64));
        // SAFETY: the arguments are the kernel's, and the memory is as large as it takes it to be.
        let ran = unsafe { library.launch("decode_steps", position as u64 + 1, &arguments) };
        assert!(
            ran && done == [1],
            "{name}: all threads wait at token {position}"
        );
        all.extend(logits);
    }
    Some(all)
}

/// Cases of a family; `with_list` says which have one.
fn check(family: &str, with_list: impl Fn(&str) -> bool) {
    let Some(compiler) = compiler() else { return };
    open_device();
    for name in cases(&format!("{family}-")) {
        let expected = Expected::read(&name);
        let (ids, logits) = (expected.ints("input_ids"), expected.floats("logits"));
        let quantized = expected.is_quantized();
        let model = load(&name, Some(Dtype::Float32));
        let vocab = model.info().vocab_size;
        let ids = &ids[..ids.len().min(TOKENS)];
        let found = emulate(&compiler, &name.replace('-', "_"), &model, ids);
        assert_eq!(found.is_some(), with_list(&name), "{name} has a list");
        let Some(found) = found else { continue };
        let right = match quantized {
            true => expected.floats("logits_f64"),
            false => logits,
        };
        let error = relative_error(&found, &right[..ids.len() * vocab], vocab);
        println!("{name}: {error:.2e}");
        assert!(error <= BOUND, "{name}: relative error {error:.2e}");
    }
}

#[test]
fn qwen3_moe() {
    check("qwen3_moe", |_| true);
}

#[test]
fn qwen2_moe() {
    check("qwen2_moe", |_| true);
}

#[test]
fn gpt_oss() {
    check("gpt_oss", |_| true);
}

#[test]
fn gemma4() {
    check("gemma4", |_| true);
}
