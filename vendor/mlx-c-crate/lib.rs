//! Empty: this crate only pins a dependency; see its Cargo.toml.
