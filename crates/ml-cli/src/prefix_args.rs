//! What is kept of prompts that were read.

use std::path::PathBuf;

use clap::Args;
use ml_backend::MlxBackendBuilder;

use crate::args::gibibytes;

/// Of what prompts made, how much is kept, and where.
#[derive(Args, Debug)]
pub(crate) struct PrefixArgs {
    /// GiB of what prompts made that are kept in memory for prompts that begin alike; 0 is none. On a CPU [default: 4,
    /// or a quarter of --memory-limit].
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    prefix_cache: Option<u64>,
    /// Keep it in this folder too, for the next time; it is made if need be, and tells what the prompts were. On a CPU.
    #[arg(long, value_name = "DIR")]
    prefix_dir: Option<PathBuf>,
    /// GiB that the files in that folder may take [default: 16].
    #[arg(long, value_name = "GIB", value_parser = gibibytes, requires = "prefix_dir")]
    prefix_dir_max: Option<u64>,
}

impl PrefixArgs {
    pub(crate) fn add_to<'a>(&self, mut builder: MlxBackendBuilder<'a>) -> MlxBackendBuilder<'a> {
        if let Some(bytes) = self.prefix_cache {
            builder = builder.prefix_cache(bytes);
        }
        if let Some(dir) = &self.prefix_dir {
            builder = builder.prefix_dir(dir);
        }
        if let Some(bytes) = self.prefix_dir_max {
            builder = builder.prefix_dir_max(bytes);
        }
        builder
    }
}
