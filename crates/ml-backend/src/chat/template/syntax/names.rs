//! Characters by their Unicode names, for `\N{...}`.

/// The character of a name, in capitals or not.
pub(super) fn character(name: &str) -> Option<char> {
    // No name begins with a hyphen, and the library looks at what stands before one.
    if name.starts_with('-') {
        return None;
    }
    unicode_names2::character(name)
}
