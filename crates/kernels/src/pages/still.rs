//! Pages for threads that run no operations: those that write them to files, and those that read them from files.
//!
//! A page is memory of one thread's operations. Others may read one that no operation is about to write, and as long as
//! they do none is made that would; and one that no operation has been given yet somebody else may fill.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mlx_core::Result;

use super::graph::{Memory, Page, PageKind};

/// A page that is not written as long as this is there: an operation that would fails to be made.
#[derive(Debug)]
pub struct StillPage {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Page {
    /// Its first `bytes` bytes, for any thread to read; `None` as long as an operation that has not run will write
    /// it, or where it is smaller.
    pub fn still(&self, bytes: usize) -> Option<StillPage> {
        // Operations that write it are made on this thread only, so none comes in between.
        let at_rest = self.memory.writers.load(Ordering::Acquire) == 0;
        if !at_rest || self.memory.room.len() < bytes {
            return None;
        }
        self.memory.readers.fetch_add(1, Ordering::Relaxed);
        Some(StillPage {
            memory: Arc::clone(&self.memory),
            bytes,
        })
    }
}

impl StillPage {
    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory has so many bytes and lives as long as this. MLX's allocator gave it, so every byte is
        // some number. Operations that were to write it have run, and as long as `readers` counts this one none is
        // made that will.
        unsafe { std::slice::from_raw_parts(self.memory.room.as_ptr(), self.bytes) }
    }
}

impl Drop for StillPage {
    fn drop(&mut self) {
        self.memory.readers.fetch_sub(1, Ordering::Release);
    }
}

/// A page that no operation has been given yet, to be filled by any thread.
#[derive(Debug)]
pub struct PageRoom {
    memory: Arc<Memory>,
    bytes: usize,
}

impl PageRoom {
    /// A page with anything in it. What this thread has submitted is waited for.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(kind: &PageKind) -> Result<Self> {
        let page = Page::new(kind)?;
        Ok(Self {
            memory: page.memory,
            bytes: kind.bytes,
        })
    }

    /// All of it, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `StillPage::bytes`; nobody else has the memory, since `new` made it and only `into_page`
        // gives it away.
        unsafe { std::slice::from_raw_parts_mut(self.memory.room.as_ptr(), self.bytes) }
    }

    /// The page, for the operations of this thread.
    pub fn into_page(self) -> Page {
        Page {
            memory: self.memory,
            life: PhantomData,
        }
    }
}
