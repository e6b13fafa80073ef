//! What a template may cost, and the counters that hold it to that.
//!
//! A template comes with a checkpoint, so it is a program of a stranger. Each rendering has a
//! thread of its own, and the counters are that thread's: every value that is made says what it
//! weighs and takes that back when it is dropped, and every step of the interpreter, every item
//! that is visited and every byte that is copied is paid for. What has a known size, such as a
//! padding, is asked for before it is made.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;

use super::failure::{Failure, Outcome, fail};

/// The bytes that a template may have. The largest known has some 40 kB.
pub(super) const SOURCE_BYTES: usize = 1 << 20;
/// How deep brackets, and blocks, may nest in the source. Python refuses the code that Jinja2
/// makes of some 100 levels.
pub(super) const NESTING: u32 = 100;
/// How high an expression may stand, operators of a chain such as `a + b + c` on top of each other.
/// Python refuses 200.
pub(super) const HEIGHT: u32 = 400;
/// How deep lists, tuples and dictionaries may lie in each other.
pub(super) const VALUE_DEPTH: u32 = 500;
/// How deep the interpreter may be in expressions, blocks and macros that call each other. Python
/// gives up at 1000 frames, of which a macro takes several.
pub(super) const DEPTH: u32 = 4000;
/// The stack that all of the above fits in, in an unoptimized build too. It is address space, of
/// which only what is used becomes memory.
pub(super) const STACK_BYTES: usize = 128 << 20;

/// Steps of a rendering, of which a second holds some ten millions. Known templates take a few
/// thousand, and some tens for each message and each property of a tool.
const FUEL: u64 = 3_000_000;
/// Further steps for each byte of the conversation.
const FUEL_PER_BYTE: u64 = 64;
/// The bytes that all values and texts of a rendering may have at a time.
const MEMORY: usize = 128 << 20;
/// Further bytes for each byte of the conversation.
const MEMORY_PER_BYTE: usize = 8;
/// The bytes that are copied in the time of one step.
const BYTES_PER_STEP: usize = 64;
/// The bytes that are looked at one by one in that time.
const CHARACTERS_PER_STEP: usize = 8;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static LIMIT: Cell<usize> = const { Cell::new(0) };
}

/// Sets this thread's counters for a conversation of so many bytes.
pub(super) fn start(conversation: usize) {
    let bytes = u64::try_from(conversation).unwrap_or(u64::MAX);
    LEFT.set(FUEL.saturating_add(bytes.saturating_mul(FUEL_PER_BYTE)));
    LIMIT.set(MEMORY.saturating_add(conversation.saturating_mul(MEMORY_PER_BYTE)));
}

/// Pays for steps.
pub(super) fn spend(steps: u64) -> Outcome<()> {
    let left = LEFT.get();
    if steps > left {
        LEFT.set(0);
        return fail(
            "it takes too many steps; a template may take three million, and more for a long chat",
        );
    }
    LEFT.set(left - steps);
    Ok(())
}

/// Pays for the copying of bytes.
pub(super) fn spend_bytes(bytes: usize) -> Outcome<()> {
    spend(u64::try_from(bytes / BYTES_PER_STEP).unwrap_or(u64::MAX))
}

/// Pays for looking at text character by character.
pub(super) fn spend_text(bytes: usize) -> Outcome<()> {
    spend(u64::try_from(bytes / CHARACTERS_PER_STEP).unwrap_or(u64::MAX))
}

/// The bytes that may still be made.
pub(super) fn room() -> usize {
    LIMIT.get().saturating_sub(LIVE.get())
}

/// Asks for bytes before they are made.
pub(super) fn ensure(bytes: usize) -> Outcome<()> {
    if bytes > room() {
        return Err(too_large());
    }
    Ok(())
}

pub(super) fn too_large() -> Box<Failure> {
    Failure::new(format!(
        "it makes too much text or too long a list; a template may hold {} MB, and more for a long chat",
        MEMORY >> 20
    ))
}

/// A value that says what it weighs for as long as it lives.
#[derive(Debug)]
pub(super) struct Held<T> {
    value: T,
    bytes: usize,
}

impl<T> Held<T> {
    /// Takes a value in that has so many bytes besides its own.
    pub(super) fn new(value: T, bytes: usize) -> Outcome<Rc<Self>> {
        let bytes = bytes + size_of::<Self>() + 2 * size_of::<usize>();
        take(bytes)?;
        Ok(Rc::new(Self { value, bytes }))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        give_back(self.bytes);
    }
}

/// Counts bytes that live on, until they are given back.
pub(super) fn take(bytes: usize) -> Outcome<()> {
    ensure(bytes)?;
    LIVE.set(LIVE.get() + bytes);
    Ok(())
}

/// Gives bytes back that were taken.
pub(super) fn give_back(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

/// A list in the making, which grows only as far as there is room.
#[derive(Debug, Default)]
pub(super) struct Gather<T>(Vec<T>);

impl<T> Gather<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, item: T) -> Outcome<()> {
        if self.0.len() == self.0.capacity() {
            ensure(2 * self.0.len() * size_of::<T>())?;
        }
        self.0.push(item);
        Ok(())
    }

    pub(super) fn done(self) -> Vec<T> {
        self.0
    }
}
