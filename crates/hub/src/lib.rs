//! Models by name: the Hugging Face hub's protocol, and its cache on disk.
//!
//! What is fetched lies as `huggingface_hub` lays it out, so that what either fetched is found by both: blobs by
//! their digest, snapshots of links to them, refs from names to snapshots. Files come in ranges that are asked for
//! several at a time, go on where they were broken off, and have the digest that the hub told, or are not there.
//!
//! ```no_run
//! use hub::{Hub, Name, Settings};
//!
//! # fn main() -> hub::Result<()> {
//! let hub = Hub::new(Settings::from_env()?);
//! let name: Name = "Qwen3-0.6B-4bit".parse()?; // mlx-community's
//! let dir = match hub.cache().find(&name)? {
//!     Some(dir) => dir,
//!     None => hub.pull(&name, &|_| {})?,
//! };
//! println!("{}", dir.display());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod blob;
mod cache;
mod client;
mod digest;
mod error;
mod listing;
mod name;
mod preview;
mod pull;
mod remove;
mod settings;

pub use cache::{Cache, Cached};
pub use error::{Error, Result};
pub use listing::{Listing, RemoteFile};
pub use name::Name;
pub use pull::{Event, Hub};
pub use remove::Removed;
pub use settings::Settings;
