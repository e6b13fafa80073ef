//! Characters by their Unicode names, for `\N{...}`.

/// The character of a name, in capitals or not.
pub(super) fn character(name: &str) -> Option<char> {
    unicode_names2::character(name)
}
