//! What MLX said about the last failure.
//!
//! mlx-c reports a failure by calling a handler on the thread that called it; its default one
//! prints and ends the process. Ours keeps the message for that thread, for whoever sees the
//! return value.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The message of the last failure on this thread, once.
pub fn take_last_error() -> Option<String> {
    LAST.try_with(RefCell::take).ok().flatten()
}

/// Keeps a failure's message; installed with `mlx_set_error_handler`.
///
/// # Safety
/// `message` is null or a NUL-terminated string.
pub(crate) unsafe extern "C" fn keep(message: *const c_char, _data: *mut c_void) {
    let text = if message.is_null() {
        String::new()
    } else {
        // SAFETY: the caller's promise.
        unsafe { CStr::from_ptr(message) }
            .to_string_lossy()
            .into_owned()
    };
    // Where the thread is ending its storage may be gone; then nobody can ask for the message.
    let _ = LAST.try_with(|last| *last.borrow_mut() = Some(without_location(&text)));
}

/// mlx-c appends " at <file>:<line>" of its own source, which means nothing to a user.
fn without_location(message: &str) -> String {
    match message.rsplit_once(" at ") {
        Some((said, place)) if is_location(place) => said.to_owned(),
        _ => message.to_owned(),
    }
}

fn is_location(place: &str) -> bool {
    place.rsplit_once(':').is_some_and(|(file, line)| {
        file.ends_with(".cpp") && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_location_in_mlx_c_is_cut_off() {
        let said = "[add] Shapes (2) and (3) cannot be broadcast.";
        assert_eq!(
            without_location(&format!("{said} at /a b/mlx/c/ops.cpp:12")),
            said
        );
        assert_eq!(without_location(said), said);
        assert_eq!(without_location("Look at this: 5"), "Look at this: 5");
    }
}
