//! Against a hub of our own on loopback, that is as unreliable as a test wants it.

mod broken;
mod cached;
mod fetched;
mod hub;
mod theirs;
