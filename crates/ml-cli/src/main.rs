//! The binary `ml`.
fn main() {}
