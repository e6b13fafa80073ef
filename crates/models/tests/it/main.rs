//! The models against references that are not ours, and against damaged files.

#![cfg(test)]

mod checks;
mod common;
mod config;
mod directories;
mod edit;
mod experts;
mod gemma3n;
mod gemma4;
mod gpt_oss;
mod listed;
mod recurrent;
mod reference;
mod small_tokenizer;
mod together;
mod tokenizer_files;
mod tokenizer_reference;
mod tokenizer_stream;
