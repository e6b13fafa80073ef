//! The pool: its workers, and the job they share.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::physical_cores;

/// How long a worker looks for the next job before it sleeps. Longer than the gap between two
/// operations of a decode step, shorter than anybody would notice.
const SPIN: Duration = Duration::from_micros(60);

thread_local! {
    /// Whether this thread is inside a task.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// A fork-join pool. See the [module](self) for how it behaves.
///
/// Dropping it ends its workers.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held by the caller whose job runs; guards the list of workers as well.
    workers: Mutex<Vec<Worker>>,
}

struct Worker {
    asleep: Arc<AtomicBool>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

struct Shared {
    gate: Gate,
    /// Threads that may work on a job, the caller included.
    threads: AtomicUsize,
    stop: AtomicBool,
    /// The next task of the open job.
    next: Counter,
    job: UnsafeCell<Job>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Apart from its neighbours, since every thread writes it.
#[repr(align(128))]
struct Counter(AtomicUsize);

/// A closure without its type and lifetime, and how many times to call it.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    data: *const (),
    tasks: usize,
}

// SAFETY: `job` is written by the one caller that holds `workers`, while the gate is closed and
// nobody is inside, and read only by threads that are inside; the gate orders the two. What its
// pointer leads to is a closure that is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is dereferenced only while its owner waits in `run`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one of them. Zero means
    /// [`physical_cores`].
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: Gate::new(),
            threads: AtomicUsize::new(1),
            stop: AtomicBool::new(false),
            next: Counter(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job {
                call: call::<fn(usize)>,
                data: std::ptr::null(),
                tasks: 0,
            }),
            panic: Mutex::new(None),
        });
        let pool = Self {
            shared,
            workers: Mutex::new(Vec::new()),
        };
        pool.set_threads(threads);
        pool
    }

    /// Threads that work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.shared.threads.load(Ordering::Relaxed)
    }

    /// Uses `threads` threads from the next job on; zero means [`physical_cores`].
    ///
    /// Fewer than asked for are used where the system refuses to start more.
    pub fn set_threads(&self, threads: usize) {
        let wanted = if threads == 0 {
            physical_cores()
        } else {
            threads
        };
        let mut workers = self.lock();
        while workers.len() + 1 < wanted {
            match Worker::start(&self.shared, workers.len()) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        self.shared
            .threads
            .store(wanted.min(workers.len() + 1), Ordering::Relaxed);
    }

    /// Calls `task(i)` once for every `i` in `0..tasks`, in no particular order and on several
    /// threads, and returns when all have returned. Inside a task it runs inline.
    ///
    /// # Panics
    /// When a task panicked: with the payload of one that did, after all threads have left the
    /// job. Tasks that had not begun by then may not run.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        if tasks <= 1 || self.threads() <= 1 || BUSY.get() {
            return (0..tasks).for_each(task);
        }
        let workers = self.lock();
        let shared = &*self.shared;
        // SAFETY: the gate is closed and nobody is inside, since every job before this one was
        // joined before its caller let go of `workers`, which we hold now.
        unsafe {
            *shared.job.get() = Job {
                call: call::<F>,
                data: (&raw const task).cast(),
                tasks,
            };
        }
        shared.next.0.store(0, Ordering::Relaxed);
        shared.gate.open();
        for worker in workers.iter().take(self.threads().min(tasks) - 1) {
            worker.wake();
        }
        // SAFETY: `task` lives in this frame, which is not left before the gate is closed and
        // empty: `draw` does not unwind.
        unsafe { shared.draw() };
        shared.gate.close();
        let panic = shared
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(workers);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Calls `task(range)` for ranges that together cover `0..len` once, each a multiple of
    /// `grain` items but the last.
    ///
    /// A thread draws a share of what is left, so ranges are long at first, which suits hardware
    /// that reads ahead, and short in the end, which lets all threads end together.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_ranges<F: Fn(Range<usize>) + Sync>(&self, len: usize, grain: usize, task: F) {
        let grain = grain.max(1);
        let threads = self.threads().min(len.div_ceil(grain));
        if threads <= 1 || BUSY.get() {
            if len > 0 {
                task(0..len);
            }
            return;
        }
        let begun = AtomicUsize::new(0);
        self.run(threads, |_| {
            loop {
                let share = |begin: usize| {
                    let grains = (len - begin) / (2 * threads * grain);
                    (begin < len).then(|| len.min(begin + grains.max(1) * grain))
                };
                let Ok(begin) = begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, share)
                else {
                    break;
                };
                // The same numbers give the same end again.
                let Some(end) = share(begin) else { break };
                task(begin..end);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Worker>> {
        // A panic inside a job is caught and the job joined, so a poisoned lock guards sound data.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.lock().iter_mut() {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker catches what its tasks throw; it has nothing to report.
                let _ = handle.join();
            }
        }
    }
}

/// # Safety
/// `data` points to an `F` that outlives the call.
unsafe fn call<F: Fn(usize)>(data: *const (), task: usize) {
    // SAFETY: by this function's own contract.
    unsafe { (*data.cast::<F>())(task) }
}

impl Shared {
    /// Draws tasks of the open job until none is left. The first panic is kept for the caller.
    ///
    /// # Safety
    /// The thread is inside the job, or is the one that opened it and has not yet closed it.
    unsafe fn draw(&self) {
        // SAFETY: written before the gate opened, and not again until it is closed and empty.
        let job = unsafe { *self.job.get() };
        BUSY.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.0.fetch_add(1, Ordering::Relaxed);
                if task >= job.tasks {
                    break;
                }
                // SAFETY: `run` keeps the closure alive until the gate is closed and empty.
                unsafe { (job.call)(job.data, task) };
            }
        }));
        BUSY.set(false);
        if let Err(payload) = result {
            // Nobody draws another task, and the caller learns why.
            self.next.0.store(job.tasks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match *first {
                None => *first = Some(payload),
                // Dropping it could panic again, here where nothing may.
                Some(_) => std::mem::forget(payload),
            }
        }
    }

    /// A worker's life: `index` counts from zero and leaves out the caller.
    fn work(&self, index: usize, asleep: &AtomicBool) {
        let mut last = 0;
        while let Some(job) = self.wait(index, last, asleep) {
            last = job;
            if self.gate.enter(job) {
                // SAFETY: we are inside.
                unsafe { self.draw() };
                self.gate.leave();
            }
        }
    }

    /// The next job, or nothing when the pool ends.
    fn wait(&self, index: usize, last: u32, asleep: &AtomicBool) -> Option<u32> {
        let wanted = || index + 1 < self.threads.load(Ordering::Relaxed);
        loop {
            let began = Instant::now();
            while wanted() && began.elapsed() < SPIN {
                for _ in 0..64 {
                    if let Some(job) = self.gate.fresh(last) {
                        return Some(job);
                    }
                    spin_loop();
                }
            }
            // Either a caller sees that we sleep, or we see that it has opened a job: both use
            // the one total order.
            asleep.store(true, Ordering::SeqCst);
            loop {
                if self.stop.load(Ordering::SeqCst) {
                    return None;
                }
                match self.gate.fresh_ordered(last) {
                    Some(job) if wanted() => {
                        asleep.store(false, Ordering::Relaxed);
                        return Some(job);
                    }
                    _ if !asleep.load(Ordering::Relaxed) => break,
                    _ => thread::park(),
                }
            }
        }
    }
}

impl Worker {
    fn start(shared: &Arc<Shared>, index: usize) -> std::io::Result<Self> {
        let asleep = Arc::new(AtomicBool::new(false));
        let handle = thread::Builder::new()
            .name(format!("kernels-{}", index + 1))
            .spawn({
                let (shared, asleep) = (Arc::clone(shared), Arc::clone(&asleep));
                move || shared.work(index, &asleep)
            })?;
        Ok(Self {
            asleep,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }

    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}
