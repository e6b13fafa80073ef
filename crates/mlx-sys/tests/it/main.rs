//! The native library as it is found with no setting.

#![cfg(test)]

mod host_op;
mod load;
