//! What every frame begins with: which frame it is, whose, and when.

use bincode::{Decode, Encode};

use crate::codec::{In, Out};
use crate::error::{DecodeError, EncodeError};
use crate::limits::VERSION;
use crate::name::DeviceName;

/// The header of a frame of any kind. Version and kind are the codec's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// Revision of the channel catalogue the frame was made under; opaque to receivers.
    pub catalogue: u32,
    /// Differs for each start of the device: a counter in flash, or random.
    pub boot: u32,
    /// Counts the device's frames of all kinds within a boot, from 0. It is given when the frame
    /// is made, so a frame that the device drops later leaves a gap.
    pub sequence: u32,
    /// Device time in µs: UTC since 1970 when the clock's base is `utc`, else since the start.
    pub t0_us: i64,
    /// The device that made the frame.
    pub device: DeviceName,
}

/// The header's fixed part, in its order on the wire.
#[derive(Encode, Decode)]
struct Fixed {
    version: u8,
    kind: u8,
    catalogue: u32,
    boot: u32,
    sequence: u32,
    t0_us: i64,
}

impl Header {
    pub(crate) fn write(&self, kind: u8, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(Fixed {
            version: VERSION,
            kind,
            catalogue: self.catalogue,
            boot: self.boot,
            sequence: self.sequence,
            t0_us: self.t0_us,
        })?;
        out.put_str8(self.device.as_str(), "device")
    }

    /// The kind byte and the header.
    pub(crate) fn read(input: &mut In<'_>) -> Result<(u8, Self), DecodeError> {
        let fixed: Fixed = input.take()?;
        let device = input.take_str8("device")?;
        let header = Self {
            catalogue: fixed.catalogue,
            boot: fixed.boot,
            sequence: fixed.sequence,
            t0_us: fixed.t0_us,
            device: DeviceName::new(device).map_err(|_| DecodeError::Field("device"))?,
        };
        Ok((fixed.kind, header))
    }
}
