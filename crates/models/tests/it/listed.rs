//! The CUDA kernel that goes through a list of steps, run on this machine as C++, every thread of it a fiber: its logits
//! equal those that transformers computed in float64.

#[path = "../../../kernels/tests/it/decode_emulated/compile.rs"]
mod compile;

use arch::State;
use kernels::steps::Nets;
use mlx_core::host_op::Pinned;
use mlx_core::{DeviceKind, Dtype};
use models::Model;

use crate::common::{Expected, cases, load, open_device, relative_error};
use compile::{Library, compiler};

/// In float32, for every position.
const BOUND: f64 = 1e-4;
const MULTIPROCESSORS: u32 = 3;
const WARPS: u32 = 4;
/// Tokens that are looked at: enough for windows to come round.
const TOKENS: usize = 40;

/// A sequence's keys and values, and what its gated delta nets remember.
struct Caches {
    /// Float32 `[heads, places, dim]` of each, state after state.
    buffers: Vec<Vec<f32>>,
    window: usize,
    /// Float32 states and tails, in front of a token and behind it.
    memories: [[Vec<f32>; 2]; 2],
}

impl Caches {
    fn new(states: &[State], nets: Option<Nets>) -> Self {
        let keys = || {
            states.iter().filter_map(|state| match state {
                State::Keys(keys) => Some(keys),
                State::Recurrent(_) => None,
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
        let sizes = nets.map_or([0, 0], |Nets { count, sizes: s }| {
            let state = s.heads * s.key_dim * s.value_dim;
            [count * state, count * (s.width - 1) * s.channels()]
        });
        Self {
            buffers: buffers.collect(),
            window,
            memories: [0.0, f32::NAN].map(|number| sizes.map(|size| vec![number; size])),
        }
    }
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr() as u64
}

/// The logits of `ids`, one behind the other.
fn emulate(
    compiler: &str,
    name: &str,
    model: &Model,
    ids: &[i32],
    mutate: impl Fn(String) -> String,
) -> Option<Vec<f32>> {
    let plan = model.listed(MULTIPROCESSORS, WARPS).unwrap()?;
    let mut library = Library::compile(compiler, name, &mutate(plan.source()), &["decode_steps"]);
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
    let mut caches = Caches::new(&model.config().model.states, plan.nets());
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
        let [[states, tails], [states_behind, tails_behind]] = &caches.memories;
        arguments.extend([
            address(&addresses),
            address(&scratch),
            0,
            address(states),
            address(tails),
            address(&logits),
            address(&done),
            address(states_behind),
            address(tails_behind),
        ]);
        arguments.extend(numbers.map(|n| n as u64));
        // SAFETY: the arguments are the kernel's, and the memory is as large as it takes it to be.
        let ran = unsafe { library.launch("decode_steps", position as u64 + 1, &arguments) };
        assert!(
            ran && done == [1],
            "{name}: all threads wait at token {position}"
        );
        all.extend(logits);
        caches.memories.swap(0, 1);
        for behind in &mut caches.memories[1] {
            behind.fill(f32::NAN);
        }
    }
    Some(all)
}

/// Checks a case, whose source `mutate` may change: the relative error of its logits.
fn error_of(name: &str, mutate: impl Fn(String) -> String) -> Option<f64> {
    let compiler = compiler()?;
    open_device();
    let expected = Expected::read(name);
    let ids = expected.ints("input_ids");
    let ids = &ids[..ids.len().min(TOKENS)];
    let right = match expected.is_quantized() {
        true => expected.floats("logits_f64"),
        false => expected.floats("logits"),
    };
    let model = load(name, Some(Dtype::Float32));
    let found = emulate(&compiler, &name.replace('-', "_"), &model, ids, mutate).unwrap();
    let vocab = model.info().vocab_size;
    Some(relative_error(&found, &right[..ids.len() * vocab], vocab))
}

fn check(names: &[&str]) {
    for name in names {
        let Some(error) = error_of(name, |source| source) else {
            return;
        };
        println!("{name}: {error:.2e}");
        assert!(error <= BOUND, "{name}: relative error {error:.2e}");
    }
}

/// Experts, also packed, and of which one is every token's.
#[test]
fn mixtures_equal_transformers() {
    check(&["qwen3_moe-window", "qwen3_moe-q8-g32", "qwen2_moe-q4-g32"]);
}

/// Sinks, windows, biases, gates that are held in bounds.
#[test]
fn gpt_oss_equals_transformers() {
    check(&["gpt_oss-v5", "gpt_oss-mxfp4"]);
}

/// Inputs of layers, keys that layers share, heads of two sizes, an MLP beside a mixture.
#[test]
fn gemma4_equals_transformers() {
    check(&["gemma4-e4b-v5", "gemma4-26b_moe-hub"]);
}

/// Gated delta nets with inputs apart and by key head, packed and plain, beside gated attention and mixtures.
#[test]
fn gated_delta_nets_equal_transformers() {
    check(&[
        "qwen3_5-wide",
        "qwen3_5_moe-q4-g32",
        "qwen3_next-hub",
        "qwen3_next-yarn",
    ]);
}

/// Asserts that the kernel is found to be wrong with the one place of `right` made `wrong`.
fn fails(name: &str, right: &str, wrong: &str) {
    let mutate = |source: String| {
        assert_eq!(source.matches(right).count(), 1, "`{right}` is there once");
        source.replacen(right, wrong, 1)
    };
    let Some(error) = error_of(name, mutate) else {
        return;
    };
    assert!(error > 10.0 * BOUND, "{name}: relative error {error:.2e}");
}

#[test]
fn a_missing_barrier_is_found() {
    fails("qwen3_moe-hub", "if (meets) barrier.wait_for_all();", "");
}

#[test]
fn shares_that_are_not_divided_are_found() {
    fails(
        "qwen3_moe-hub",
        "route.share[lane] / total * factor",
        "route.share[lane] * factor",
    );
}

#[test]
fn a_tail_that_is_not_kept_is_found() {
    fails("qwen3_5-hub", "if (keeps && i > 0)", "if (keeps && i > 1)");
}

/// What is said of a model before it runs holds: there is a list for it or, in single operations, none.
#[test]
fn there_is_a_list_where_the_plan_says_so() {
    open_device();
    let mut lists = 0;
    let mut lacks = Vec::new();
    // Files of float16 numbers, which stay that in a model of float32, are nobody's: the plan is for what files ask for.
    for name in cases("").iter().filter(|name| !name.ends_with("-f16")) {
        let model = load(name, Some(Dtype::Float32));
        let there = model.listed(MULTIPROCESSORS, 16).unwrap().is_some();
        let plan = model.info().plan(DeviceKind::Cuda);
        let Some(token) = plan.iter().find(|step| step.part == "a token") else {
            continue;
        };
        assert_eq!(there, token.slower.is_none(), "{name}: {token}");
        lists += usize::from(there);
        lacks.extend(token.slower.clone());
    }
    for why in ["several streams", "heads"] {
        let said = lacks.iter().filter(|said| said.contains(why)).count();
        assert!(said > 0, "no model has {why}");
    }
    assert!(lists > 50, "only {lists} lists");
}
