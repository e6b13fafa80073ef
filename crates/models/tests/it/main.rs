//! The models against references that are not ours, and against damaged files.

mod checks;
mod common;
mod reference;
