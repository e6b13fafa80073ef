//! A fork-join pool for kernels that last microseconds.
//!
//! A decode step forks a few hundred times, each time for tens of microseconds, so what counts is
//! the price of one fork and one join. Four decisions follow:
//!
//! * Workers spin for a few tens of microseconds after a job and only then sleep, so that forks
//!   in a row cost a cache line's travel and no system call, and an idle pool costs nothing.
//! * A job is a number of tasks that threads draw from one atomic counter. A core that someone
//!   else is using draws fewer of them; nobody waits for a fixed share.
//! * The caller works too, and joins only the workers that *entered* its job. A worker that is
//!   late or was never scheduled is not waited for.
//! * One job runs at a time: other callers queue. A job started from inside a task runs inline on
//!   the thread that starts it, so kernels may be nested without a thought.

mod cores;
mod gate;
mod pool;

pub use cores::physical_cores;
pub use pool::Pool;
