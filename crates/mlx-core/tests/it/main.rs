//! Every operation against plain scalar code in float64, on random inputs; and arrays over borrowed bytes.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

#[path = "../common/mod.rs"]
mod common;

mod create;
mod elementwise;
mod errors;
mod fast;
mod host_op;
mod index;
mod join;
mod lent;
mod quant;
mod random;
mod reduce;
mod strided;
