//! The models against references that are not ours, and against damaged files.

#![cfg(test)]

mod checks;
mod common;
mod directories;
mod edit;
mod reference;
