//! What a program that uses this crate relies on.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

#[path = "../common/mod.rs"]
mod common;

mod answer;
mod chat;
mod chat_jinja;
mod chat_reference;
mod demo;
mod demo_accuracy;
mod embedding;
mod encoder;
mod examples;
mod forced;
mod middle;
mod prefix;
mod random_weights;
mod respond;
mod sampling;
mod scripted;
mod session;
mod structure;
