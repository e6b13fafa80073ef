//! The kernel as a node of MLX's graph.

use std::cell::RefCell;

use mlx_core::cuda::{Kernel, Launch, Module, Scalar};
use mlx_core::{Array, Dtype, Result};

use super::nets::{Memories, Nets};
use super::plan::{Plan, WARPS};
use crate::arrays::{exactly, on_cuda};
use crate::decode::{Tables, TokenModel, target};
use crate::kv::{Launched, Slot};

/// The kernel's name in its source.
const NAME: &str = "decode_steps";

/// The kernel for one model, with the list of its steps.
pub struct ListedStep {
    plan: Plan,
    kernel: Kernel,
    launch: Launch,
    tables: Tables,
    list: Array,
    /// Addresses of the plan's arrays.
    table: Array,
    /// Rewritten by each launch; the first finds zeros.
    scratch: Array,
    /// Of the last launch, for the next: no two may run at a time, since each takes all multiprocessors and the
    /// scratch memory.
    last: RefCell<Option<(Array, Launched)>>,
}

impl ListedStep {
    /// Compiles the kernel for `model`, or finds it compiled before. `None` where it cannot run: on a device other than
    /// CUDA, a GPU before sm_80, and for sizes, dtypes or packings that it does not have; the caller has the single
    /// operations.
    ///
    /// # Errors
    /// Where the kernel cannot be compiled or there is no memory for its scratch.
    pub fn new(model: &TokenModel<'_>) -> Result<Option<Self>> {
        let Some(target) = target()? else {
            return Ok(None);
        };
        let Some(plan) = Plan::of(model, target.multiprocessors, WARPS)? else {
            return Ok(None);
        };
        // Beside what the block declares for itself.
        if plan.shared_memory() + 1024 > target.shared_memory as usize {
            return Ok(None);
        }
        let kernel = Module::compile(NAME, &plan.source(), &["-default-device"])?.kernel(NAME)?;
        let launch = Launch {
            shared_memory: plan.shared_memory() as u32,
            // Every input is dense, and a copy of the scratch memory or of a cache would be wrong.
            copy_strided: false,
            blocks_wait: true,
            ..Launch::new([target.multiprocessors, 1, 1], [32 * WARPS, 1, 1])
        };
        let tables = Tables::new()?;
        let numbers = plan.numbers();
        let list = Array::from_slice(&numbers, &[numbers.len() as i32])?;
        let table = tables.of(&plan.arrays().iter().collect::<Vec<_>>())?;
        let scratch = Array::zeros(&[plan.scratch_words() as i32], Dtype::Uint32)?;
        mlx_core::eval(&[&list, &table, &scratch])?;
        Ok(Some(Self {
            plan,
            kernel,
            launch,
            tables,
            list,
            table,
            scratch,
            last: RefCell::new(None),
        }))
    }

    /// Whether [`ListedStep::run`] can run now, on this stream.
    pub fn runs_here(&self) -> Result<bool> {
        on_cuda()
    }

    /// Of keys and values.
    pub fn dtype(&self) -> Dtype {
        self.plan.dtype()
    }

    /// The model's gated delta nets, if it has such.
    pub fn nets(&self) -> Option<Nets> {
        self.plan.nets()
    }

    /// The token `ids`, int32 `[1]`, at position `offset`, through the model: float32 logits `[1, vocab]`. Keys and values
    /// are written into `slots`, one for each state that holds such, each with room for it; of gated delta nets there are
    /// `memories`, and new ones are left in their place.
    ///
    /// # Errors
    /// Where there is not one token, memories are not the model's, or nothing can be launched.
    pub fn run(
        &self,
        ids: &Array,
        offset: i32,
        slots: &mut [Vec<Slot>],
        memories: &mut Option<Memories>,
    ) -> Result<Array> {
        let fits = ids.dtype() == Dtype::Int32 && ids.shape() == [1];
        let [of_one] = &*slots else {
            return Err(refused(ids, slots.len()));
        };
        if !fits {
            return Err(refused(ids, 1));
        }
        let [full, ring] = self.plan.kinds.map(|state| {
            let slot = state.and_then(|state| of_one.get(state));
            slot.map_or([0, 1, 1], |s| [s.start, s.visible, s.buffers.capacity()])
        });
        let caches = self.tables.of_caches(slots, 1)?;
        let count = self.plan.count() as i32;
        let [place, held, room] = ring;
        let scalars = [count, offset, full[2], place, held, room].map(Scalar::Int);
        let last = self.last.borrow_mut().take();
        let last = last.filter(|(done, launched)| launched.leads_on(done));
        let after = last.as_ref().map_or(ids, |(done, _)| done);
        let (dtype, shape) = (self.plan.dtype(), [1, self.plan.vocab]);
        // What is not there is not read or written.
        let [state_shape, tail_shape] = self.nets().map_or([vec![1], vec![1]], Nets::shapes);
        let [states, tails] = match (self.nets(), &*memories) {
            (Some(_), Some(m)) if m.fit([&state_shape, &tail_shape], dtype) => {
                [&m.states, &m.tails]
            }
            (None, None) => [ids, ids],
            _ => return Err(refused(ids, 1)),
        };
        let inputs = [
            ids,
            &self.list,
            &self.table,
            &caches,
            &self.scratch,
            after,
            states,
            tails,
        ];
        let outputs: [(&[i32], Dtype); 4] = [
            (&shape, Dtype::Float32),
            (&[1], Dtype::Uint8),
            (&state_shape, Dtype::Float32),
            (&tail_shape, dtype),
        ];
        // SAFETY: the parameters are the kernel's, which was compiled for this list. The tables hold the addresses of
        // the plan's arrays, which `self` keeps until the last launch has run, and of the caches, which `slots` has and
        // keeps until what they were `written_by` has run. It writes to the scratch memory and to the caches: no other
        // array has those buffers, this launch depends on the last one that wrote them, and `last` and `written_by` make
        // the next ones depend on this.
        let made = unsafe { self.kernel.launch(&inputs, &outputs, &scalars, self.launch) }?;
        let [logits, done, states, tails] = exactly(made);
        if let Some(memories) = memories {
            *memories = Memories { states, tails };
        }
        let launched = Launched::now();
        for slot in slots.iter_mut().flatten() {
            slot.buffers.written_by_address(done.clone(), launched);
        }
        *self.last.borrow_mut() = Some((done, launched));
        Ok(logits)
    }
}

fn refused(ids: &Array, sequences: usize) -> mlx_core::Error {
    mlx_core::Error::Native(format!(
        "decode_steps: {sequences} sequences and ids {} {:?} are no step of one",
        ids.dtype(),
        ids.shape()
    ))
}

impl Drop for ListedStep {
    /// The last launch may still run: the step behind the end of an answer is submitted before the end is known. MLX
    /// knows nothing of the weights that it reads, and would give their memory to others.
    fn drop(&mut self) {
        if let Some((done, launched)) = self.last.get_mut().take() {
            // What went wrong shows where the result itself is asked for.
            let _ = launched.settle(&done);
        }
    }
}
