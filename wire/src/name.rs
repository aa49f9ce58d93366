//! Names of devices and channels.

use core::fmt;
use core::str::FromStr;

use crate::limits::DEVICE_NAME_BYTES_MAX;

/// Whether `name` is 1 to `bytes_max` bytes of `[a-z0-9._-]`.
pub(crate) fn is_name(name: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// The name of a device: 1 to 16 bytes of `[a-z0-9._-]`, unique in its car.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(heapless::String<DEVICE_NAME_BYTES_MAX>);

/// A name that no device may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameError;

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device name: expected 1 to {DEVICE_NAME_BYTES_MAX} of a-z, 0-9, '.', '_', '-'")
    }
}

impl core::error::Error for NameError {}

impl DeviceName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long, or holds another character.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if !is_name(name, DEVICE_NAME_BYTES_MAX) {
            return Err(NameError);
        }
        heapless::String::try_from(name).map(Self).map_err(|_| NameError)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl AsRef<str> for DeviceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
