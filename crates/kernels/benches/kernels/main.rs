//! How near each kernel comes to what the machine can do.
//!
//!     cargo bench -p kernels                        # everything, one thread a physical core
//!     cargo bench -p kernels -- threads=1 decode    # one thread, lines that contain "decode"
//!
//! Memory-bound kernels are given in GB/s next to the read bandwidth, arithmetic ones in GFLOP/s
//! next to the rate of the best multiply instruction with float32 sums, which AVX2's products of integers exceed; both peaks are measured in the same run, and
//! the bandwidth again between the rounds of each kernel, since machines are shared. Operands of a
//! decode step are taken in turn from a set larger than any cache. Of all calls the line gives the
//! median and the tenth percentile of times, which a busy machine disturbs less.

mod decode;
mod draw;
mod peaks;
mod prefill;
mod small;
mod timing;

use kernels::{Cpu, Isa};

/// What to run, and on what.
pub(crate) struct Run {
    cpu: Cpu,
    filter: Vec<String>,
}

impl Run {
    /// Whether a line of this name was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filter.iter().all(|part| name.contains(part.as_str()))
    }
}

fn main() {
    let mut threads = 0;
    let mut isa = Isa::best();
    let mut filter = Vec::new();
    for arg in std::env::args().skip(1) {
        if let Some(n) = arg.strip_prefix("threads=") {
            threads = n.parse().expect("threads=NUMBER");
        } else if let Some(name) = arg.strip_prefix("isa=") {
            isa = name.parse().expect("an instruction set");
        } else if !arg.starts_with("--") {
            filter.push(arg);
        }
    }
    let cpu = Cpu::new(isa, threads).expect("an available instruction set");
    println!("{:?}, {} threads", cpu.isa(), cpu.pool().threads());
    let run = Run { cpu, filter };
    peaks::report(&run);
    decode::report(&run);
    prefill::report(&run);
    small::report(&run);
    draw::report(&run);
}
