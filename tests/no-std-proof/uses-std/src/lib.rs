//! Uses std.

/// Needs std.
pub fn name() -> Option<std::ffi::OsString> {
    std::env::args_os().next()
}
