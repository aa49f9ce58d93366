//! The bytes of version 1, written by hand from the format's description (the CRCs come from
//! zlib). They are never edited and never made by this crate: a change here is a new version.

/// Bytes from two-digit hex; `#` begins a comment.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// Revision of the catalogue in [`DESCRIBE`]: zlib's CRC-32 over its three entries.
pub(crate) const CATALOGUE: u32 = 0x55bf_6e4f;

pub(crate) const DESCRIBE: &str = "
    01                          # version
    01                          # kind: describe
    4f 6e bf 55                 # catalogue
    07 00 00 00                 # boot
    00 00 00 00                 # sequence
    00 00 00 00 00 00 00 00     # t0
    03 65 63 75                 # device: ecu
    00                          # part
    01                          # parts
    01                          # clock base: boot
    03 00                       # channels in all parts
    03                          # channels in this part

    01 00                       # id
    01                          # value kind: i16
    00                          # group: none
    00 00 00 00 00 00 e0 3f     # scale: 0.5
    00 00 00 00 00 00 00 00     # offset: 0
    a0 86 01 00                 # rate: 100,000 mHz
    0a 65 6e 67 69 6e 65 2e 72 70 6d  # name: engine.rpm
    03 72 70 6d                 # unit: rpm

    02 00                       # id
    03                          # value kind: f32
    01                          # group
    00 00 00 00 00 00 f0 3f     # scale: 1
    00 00 00 00 00 00 44 c0     # offset: -40
    10 27 00 00                 # rate: 10,000 mHz
    0c 63 6f 6f 6c 61 6e 74 2e 74 65 6d 70  # name: coolant.temp
    03 c2 b0 43                 # unit: degree C

    03 00                       # id
    01                          # value kind: i16
    01                          # group
    7b 14 ae 47 e1 7a 84 3f     # scale: 0.01
    00 00 00 00 00 00 00 00     # offset: 0
    10 27 00 00                 # rate: 10,000 mHz
    08 74 68 72 6f 74 74 6c 65  # name: throttle
    01 25                       # unit: %

    f8 30 5a ba                 # crc
";

pub(crate) const BURST: &str = "
    01                          # version
    02                          # kind: burst
    4f 6e bf 55                 # catalogue
    07 00 00 00                 # boot
    01 00 00 00                 # sequence
    40 42 0f 00 00 00 00 00     # t0: 1,000,000
    03 65 63 75                 # device: ecu
    01 00                       # channel
    01                          # value kind: i16
    80 96 98 00                 # period: 10,000,000 ns
    03 00                       # count
    d0 07                       # 2000
    da 07                       # 2010
    ff ff                       # -1
    76 b7 82 d5                 # crc
";

pub(crate) const BURST_I32: &str = "
    01                          # version
    02                          # kind: burst
    00 00 00 00                 # catalogue
    ef be ad de                 # boot
    fe ff ff ff                 # sequence: 2^32 - 2
    40 22 20 18 24 0a 06 00     # t0: 1,700,000,000,123,456
    05 67 70 73 2d 31           # device: gps-1
    01 02                       # channel: 513
    02                          # value kind: i32
    00 00 00 00                 # period: 0, for a single sample
    01 00                       # count
    f9 87 e9 e3                 # -471,234,567
    ab 5d ee 9b                 # crc
";

pub(crate) const BURST_F32: &str = "
    01                          # version
    02                          # kind: burst
    00 00 00 00                 # catalogue
    ef be ad de                 # boot
    00 00 01 00                 # sequence: 65,536
    ff ff ff ff ff ff ff ff     # t0: -1
    05 67 70 73 2d 31           # device: gps-1
    ff ff                       # channel: 65,535
    03                          # value kind: f32
    3e 29 04 00                 # period: 272,702 ns
    02 00                       # count
    00 00 00 bf                 # -0.5
    00 00 80 7f                 # infinity
    e5 80 d6 2e                 # crc
";

pub(crate) const SCAN: &str = "
    01                          # version
    03                          # kind: scan
    4f 6e bf 55                 # catalogue
    07 00 00 00                 # boot
    02 00 00 00                 # sequence
    40 42 0f 00 00 00 00 00     # t0: 1,000,000
    03 65 63 75                 # device: ecu
    01                          # group
    00 e1 f5 05                 # period: 100,000,000 ns
    02 00                       # count
    0c 00                       # data bytes
    00 00 b5 42                 # row 0, coolant.temp: f32 90.5
    88 13                       # row 0, throttle: i16 5000
    00 80 b5 42                 # row 1, coolant.temp: f32 90.75
    00 00                       # row 1, throttle: i16 0
    25 ef fe 56                 # crc
";

pub(crate) const EVENT: &str = "
    01                          # version
    04                          # kind: event
    4f 6e bf 55                 # catalogue
    07 00 00 00                 # boot
    03 00 00 00                 # sequence
    50 69 0f 00 00 00 00 00     # t0: 1,010,000
    03 65 63 75                 # device: ecu
    01                          # event kind: lap
    0c 00 00 00 00 00 00 00     # number: 12
    07 62 6f 78 20 62 6f 78     # text: box box
    ee d8 7f b4                 # crc
";

/// [`EVENT`] on a serial line: each run up to a zero is led by its length plus one.
pub(crate) const EVENT_STREAM: &str = "
    08  01 04 4f 6e bf 55 07
    01
    01
    02  03
    01
    01
    04  50 69 0f
    01
    01
    01
    01
    07  03 65 63 75 01 0c
    01
    01
    01
    01
    01
    01
    0d  07 62 6f 78 20 62 6f 78 ee d8 7f b4
    00                          # delimiter
";

pub(crate) const STATUS: &str = "
    01                          # version
    05                          # kind: status
    4f 6e bf 55                 # catalogue
    07 00 00 00                 # boot
    04 00 00 00                 # sequence
    e0 c8 10 00 00 00 00 00     # t0: 1,100,000
    03 65 63 75                 # device: ecu
    07 00 00 00 00 00 00 00     # samples before: 3 in the burst, 4 in the scan
    03 00 00 00 00 00 00 00     # dropped by the device
    01 00 00 00                 # resets
    74 04 65 99                 # crc
";
