//! Every bound of the agent, with its arithmetic. What a user may set is in the modules' configurations;
//! its default and its upper bound stand here.
//!
//! Memory, by the sum of the queues (the resident aim is 100 MiB at the `wide` tier):
//! `RAW 8 + ITEMS 2 × 8 + FLUSHES 8 + UNSTORED 24 + BACKLOG 12 + QUARANTINE 4 = 72 MiB` at worst, with every
//! queue full; `HELD 16` more while devices have not described themselves, `DEDUP 16` at the `f1` tier and above
//! (6 at `wide`), `DERIVE 16` where channels are computed, and what a broker may send ahead.

use std::time::Duration;

/// One MiB in bytes.
pub const MIB: usize = 1 << 20;

/// Sources a configuration may name.
pub const SOURCES_MAX: usize = 64;
/// Devices the agent follows at once, over all sources: 24 cars × 10 devices.
pub const DEVICES_MAX: usize = 256;
/// Channels of one device: the wire's ids are u16, real cars have below 1,000.
pub const CHANNELS_PER_DEVICE_MAX: usize = 4_096;

/// Entries of one list of `[preprocess]`: more than any car has kinds of channels, and each is asked once for
/// each channel.
pub const RULES_PER_STEP_MAX: usize = 256;

/// What dedup remembers of all channels: the `f1` tier's 2.2 MB/s × 5 s = 11 MB, and 4 MB for a second car's
/// `wide` tier; beyond it every channel forgets its older half.
pub const DEDUP_BYTES_MAX: usize = 16 * MIB;
/// Samples of one block that dedup remembers: a Burst of 1 KiB, or a second of a Scan at 500 Hz.
pub const DEDUP_BLOCK_SAMPLES: usize = 512;
/// Frames of one device that dedup watches until they are settled: 815 frames/s (`f1`) × 5 s. About 100 KiB.
pub const DEDUP_FRAMES_MAX: usize = 4_096;
/// Columns in a row that are older than dedup's window, until it takes the newest time for a mistake: a backfill
/// of so many without live data between costs no more than the memory of that channel.
pub const DEDUP_ASTRAY_MAX: u32 = 64;

/// Coefficients of a polynomial: sensors' data sheets have up to the 13th power (thermocouples).
pub const POLYNOMIAL_MAX: usize = 16;
/// Points of a table: one for each step of a 12-bit converter.
pub const TABLE_POINTS_MAX: usize = 4_096;
/// Intervals from which a channel's period is learned: their median bears seven that are wrong.
pub const PERIOD_INTERVALS: usize = 15;
/// Samples in a row that are no newer than the newest one, until validate takes that one's time for a mistake.
pub const VALIDATE_ASTRAY_MAX: u32 = 1_024;

/// Bytes of an expression of `[[preprocess.derive]]`: a page of the longest names.
pub const EXPRESSION_BYTES_MAX: usize = 4_096;
/// How deep its parentheses, functions, signs and powers may be nested: people lose count before 10.
pub const EXPRESSION_NESTING_MAX: usize = 32;
/// Channels that one expression may name: four wheels × four quantities.
pub const EXPRESSION_INPUTS_MAX: usize = 16;

/// How old an input of a derived channel may be allowed to be: a stint.
pub const DERIVE_MAX_AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long a derived sample may be allowed to wait for its inputs; its frame is not acknowledged meanwhile.
pub const DERIVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Samples remembered of one input, and samples of one entry that wait: 3,667 Hz (`f1`) × 4 s.
pub const DERIVE_SAMPLES_MAX: usize = 16_384;
/// Of these, of an input of a device that has not sent the channel whose times count: 0.3 s of `f1`.
pub const DERIVE_UNASKED_SAMPLES_MAX: usize = 1_024;
/// Bytes that derive holds over all devices: 48 inputs as long as they may be, or 700 of 1 s at 1 kHz.
pub const DERIVE_HELD_BYTES_MAX: usize = 16 * MIB;
/// Samples in a row that are older than the newest one, until derive takes that one's time for a mistake.
pub const DERIVE_ASTRAY_MAX: u32 = VALIDATE_ASTRAY_MAX;
/// Samples that remain of an input where that is exceeded.
pub const DERIVE_CUT_SAMPLES: usize = 64;
const _: () = assert!(DERIVE_CUT_SAMPLES < DERIVE_UNASKED_SAMPLES_MAX);
const _: () = assert!(DERIVE_UNASKED_SAMPLES_MAX < DERIVE_SAMPLES_MAX);

/// Of so many samples one may be kept: 20 kHz thinned to one a minute.
pub const DECIMATE_EVERY_MAX: u32 = 1_200_000;
/// Windows of device time that a channel is thinned by: at least a few samples of `f1`, and at most what may
/// be held back, unacknowledged. A channel holds four samples and a receipt, about 1 KiB: 4 MiB for a device
/// with as many channels as it may have.
pub const DECIMATE_WINDOW_MIN: Duration = Duration::from_millis(1);
/// See [`DECIMATE_WINDOW_MIN`].
pub const DECIMATE_WINDOW_MAX: Duration = Duration::from_secs(10);
/// How much longer than its window a window waits for the sample that ends it: the way of a burst.
pub const DECIMATE_WAIT: Duration = Duration::from_millis(200);

/// Events about anomalies of one device in a minute of its time; the rest are counted.
pub const ANOMALY_EVENTS_MAX: usize = 60;

/// Batches of raw messages between a source and decode: 2,444 frames/s (`f1`) × 0.4 s, if each came alone.
pub const RAW_ITEMS_MAX: usize = 1_024;
/// Messages that a source hands on at once: 2 ms of 100,000 single samples a second, and some.
pub const RAW_BATCH_MESSAGES_MAX: usize = 256;
/// Their bytes, unless one alone has more: 64 wire frames.
pub const RAW_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Their bytes.
pub const RAW_BYTES_MAX: usize = 8 * MIB;
/// Bytes that a serial source reads at once: 40 ms at 1 Mbaud.
pub const SERIAL_READ_BYTES: usize = 4_096;
/// Decoded items between decode and preprocess, and between preprocess and chunk.
pub const ITEMS_MAX: usize = 1_024;
/// Their bytes.
pub const ITEMS_BYTES_MAX: usize = 8 * MIB;
/// Flushes between chunk and delivery.
pub const FLUSHES_MAX: usize = 256;
/// Their bytes.
pub const FLUSHES_BYTES_MAX: usize = 8 * MIB;

/// MQTT packets: a wire frame is at most 4 KiB, a JSON message with 782 channels about 32 KiB.
pub const MQTT_PACKET_BYTES_MAX: u32 = 256 * 1024;
/// The same where MQTT 3.1.1 is spoken: such a broker cannot be told what is too large, and would send it again for
/// ever if the connection ended over it. So more is read, and what exceeds [`MQTT_PACKET_BYTES_MAX`] is dropped and
/// acknowledged, as a broker does by itself with MQTT 5.
pub const MQTT_311_PACKET_BYTES_MAX: usize = 16 * MIB;
const _: () = assert!(MQTT_PACKET_BYTES_MAX as usize <= MQTT_311_PACKET_BYTES_MAX);
/// Messages that any broker can have unacknowledged: their ids have 16 bits, and 0 is none.
pub const MQTT_WINDOW_MAX: usize = 65_535;
/// Default of `receive_maximum`: with 4 KiB frames 16 MiB are unacknowledged at worst.
pub const MQTT_RECEIVE_MAXIMUM: u16 = 4_096;

/// Frames held for an unknown catalogue, per device: 2,444 frames/s × one Describe interval of 2 s.
pub const HELD_FRAMES_MAX: usize = 4_096;
/// Their bytes, per device.
pub const HELD_BYTES_MAX: usize = 4 * MIB;
/// Their bytes over all sources: a car of ten devices at `f1` for two Describe intervals.
pub const HELD_BYTES_ALL_MAX: usize = 16 * MIB;
const _: () = assert!(HELD_BYTES_MAX <= HELD_BYTES_ALL_MAX);
/// Bytes of a name that a topic or a JSON message brings: what the configuration allows itself, and a channel.
pub const CAR_BYTES_MAX: usize = 64;
/// Bytes of a channel's name in JSON.
pub const JSON_CHANNEL_BYTES_MAX: usize = 255;
/// Bytes of a text in JSON, which becomes an event's.
pub const JSON_TEXT_BYTES_MAX: usize = 4_096;
/// Clock mappings that the chunk stage remembers: 256 devices × 4 boots.
pub const CLOCKS_MAX: usize = 1_024;
/// Frames whose sequence is remembered per device for telling repetitions: 26 s of `f1`.
pub const SEQUENCE_WINDOW: u32 = 65_536;
/// Boots of devices of which is remembered what is settled: 256 devices × 4 boots.
pub const SETTLED_BOOTS_MAX: usize = 4 * DEVICES_MAX;
/// Ranges of settled frames of one boot, and of missing ones that are not declared yet: a tenth of `f1`'s frames lost,
/// 80 holes/s × the 3 s until they are declared.
pub const SETTLED_RANGES_MAX: usize = 256;
/// Bytes of the file about it: every boot with as many ranges as it may have, at 48 B, and names.
pub const SETTLED_BYTES_MAX: usize = SETTLED_BOOTS_MAX * (SETTLED_RANGES_MAX * 64 + 512);
/// How long a missing frame may still come late over a line, until it is declared missing.
pub const LATE_ON_A_LINE: Duration = Duration::from_secs(2);
/// The same where a broker sends again: it has to connect and to work off what it kept.
pub const LATE_FROM_A_BROKER: Duration = Duration::from_secs(30);
/// Distance of two gap events of one boot: what is found missing meanwhile becomes one.
pub const GAP_EVERY: Duration = Duration::from_secs(1);
/// JSON messages whose content is remembered per source.
pub const CONTENT_WINDOW: usize = 65_536;

/// Samples of one chunk: 1 s of 65 kHz.
pub const CHUNK_SAMPLES_MAX: usize = 65_536;
/// Device time of one chunk, µs.
pub const CHUNK_SPAN_US: i64 = 1_000_000;
/// Bytes of one flush: 300 channels × 733 samples × 2 B = 430 KiB is `f1` at 200 ms; a write is a
/// single mutation, and Cassandra's bound is 16 MiB.
pub const FLUSH_BYTES_MAX: usize = 2 * MIB;
const _: () = assert!(FLUSH_BYTES_MAX * 4 <= 16 * MIB);

/// Rows of one partition in the store, aimed at.
pub const PARTITION_ROWS_MAX: u64 = 100_000;
/// The same where each sample is a row.
pub const SAMPLES_PARTITION_ROWS_MAX: u64 = 50_000;
const _: () = assert!(SAMPLES_PARTITION_ROWS_MAX <= PARTITION_ROWS_MAX);
/// Samples of one flush where each becomes a row: 50 ms of a server that takes 400,000 a second, so that several are in
/// flight and none comes near the store's timeout. One chunk may have more.
pub const SAMPLES_FLUSH_MAX: u64 = 20_000;
/// Bytes of one partition in the store, aimed at.
pub const PARTITION_BYTES_MAX: u64 = 100_000_000;

/// Flushes that delivery holds, until they are stored or spilled: 10 devices × 5/s × 5 s, doubled four
/// times for a store that lags and a disk that fails.
pub const UNSTORED_FLUSHES_MAX: usize = 1_024;
/// Their bytes, those on the way to the store or the spill included: the `f1` tier's 2.2 MB/s × 10 s.
pub const UNSTORED_BYTES_MAX: usize = 24 * MIB;
/// Of these, while nothing can be written, those that a broker waits for: one for each message of a window at its default.
pub const KEPT_FLUSHES_MAX: usize = MQTT_RECEIVE_MAXIMUM as usize;
/// Their bytes: such a window of frames of 1 KiB, four times that as rows. The rest is left to serial ports.
pub const KEPT_BYTES_MAX: usize = 16 * MIB;
const _: () = assert!(KEPT_BYTES_MAX + LIVE_BYTES_MAX <= UNSTORED_BYTES_MAX);
/// Bytes of live writes in flight, and of one append to the spill: a few of the largest flushes.
pub const LIVE_BYTES_MAX: usize = 8 * MIB;
const _: () = assert!(LIVE_BYTES_MAX + 2 * FLUSH_BYTES_MAX <= UNSTORED_BYTES_MAX);
/// Bytes of backlog writes in flight.
pub const BACKLOG_BYTES_MAX: usize = 8 * MIB;
/// Bytes fetched from the spill ahead of its writes.
pub const FETCH_BYTES_MAX: usize = 4 * MIB;
/// Messages that wait for the quarantine, and as many refused writes: 1 s of a broker at 1,000 messages/s that cannot be
/// decoded.
pub const QUARANTINE_WAITING_MAX: usize = 1_024;
/// Their bytes, of each: beyond them messages are let go, and with so many refused rows delivery takes nothing more.
pub const QUARANTINE_WAITING_BYTES_MAX: usize = 2 * MIB;
/// Messages that were let go and wait, unacknowledged, until the quarantine works: the largest window of MQTT 5, 64 B each.
pub const QUARANTINE_LET_GO_MAX: usize = 65_535;
/// Bytes of one append to the quarantine: a quarter of the smallest that may be configured.
pub const QUARANTINE_APPEND_BYTES_MAX: usize = MIB;
/// Smallest budget of the quarantine and of the spill: twice the largest flush.
pub const DISK_BYTES_MIN: u64 = 4 * MIB as u64;
const _: () = assert!(QUARANTINE_APPEND_BYTES_MAX as u64 * 4 <= DISK_BYTES_MIN);
const _: () = assert!(FLUSH_BYTES_MAX as u64 * 2 <= DISK_BYTES_MIN);

/// Writes in flight to the store, live and backlog together, unless `deliver.writes_in_flight` says otherwise: the
/// `wide` tier's 20 flushes/s × 0.3 s of round trip = 6, and as many again for the backlog.
pub const WRITES_IN_FLIGHT: u16 = 16;
/// Fewest that may be set: one for live data, one for the backlog.
pub const WRITES_IN_FLIGHT_MIN: u16 = 2;
/// Most that may be set: half of the 1,024 orphans at which the driver gives a connection up.
pub const WRITES_IN_FLIGHT_MAX: u16 = 512;
/// Of these, what the backlog has while live data waits, in percent, unless `deliver.backlog_share` says otherwise:
/// 4 of 16.
pub const BACKLOG_SHARE_PERCENT: u8 = 25;
/// Of these, what the backlog may take alone, in percent: 12 of 16, so that live data that comes finds room at once.
/// The most that its share may be set to.
pub const BACKLOG_ALONE_PERCENT: u8 = 75;
const _: () = assert!(BACKLOG_SHARE_PERCENT <= BACKLOG_ALONE_PERCENT && BACKLOG_ALONE_PERCENT < 100);
const _: () = assert!(WRITES_IN_FLIGHT_MIN >= 2 && WRITES_IN_FLIGHT_MAX < 1_024);

/// Channels that the live board follows; more are counted, not shown.
pub const LIVE_CHANNELS_MAX: usize = 2_048;
/// Width of a bin of the live board, µs.
pub const LIVE_BIN_US: i64 = 100_000;
/// Bins kept per channel: 30 s. 2,048 channels × 300 × 32 B = 19 MiB at worst; `wide`: 7.2 MiB.
pub const LIVE_BINS_MAX: usize = 300;
/// Clients of the live stream at once. One that reads nothing holds the write buffer of the HTTP library
/// and the event that filled it: 32 × (0.4 MiB + 0.2 MiB at the `wide` tier) = 19 MiB at worst, for
/// [`MONITOR_IDLE_MAX`].
pub const LIVE_CLIENTS_MAX: usize = 32;
/// Channels of which one client gets points: 8 charts × 6 lines, and some. Its first event then has at
/// most 64 × 300 bins × 60 B = 1.2 MB.
pub const LIVE_CLIENT_CHANNELS_MAX: usize = 64;
/// Connections to the monitor at once: the live clients, and as many short requests.
pub const MONITOR_CONNECTIONS_MAX: usize = 64;
const _: () = assert!(LIVE_CLIENTS_MAX < MONITOR_CONNECTIONS_MAX);
/// A connection on which nothing moves for so long is closed: more than a usual scrape interval of 60 s.
pub const MONITOR_IDLE_MAX: Duration = Duration::from_secs(75);
/// What open requests may still take when the agent stops.
pub const MONITOR_DRAIN_MAX: Duration = Duration::from_secs(1);
/// Distance of two log lines about what a source sends that cannot be decoded; the rest are counted.
pub const MALFORMED_LINE_EVERY: Duration = Duration::from_secs(5);

/// Connections that read the embedded store at once; each has a page cache of 2 MiB.
pub const SQLITE_READERS_MAX: usize = 4;
/// Rows that one call deletes from the embedded store, about: at some 20 µs each they hold up writing for
/// 0.1 s, a tenth of D.
pub const SQLITE_EXPIRED_ROWS_MAX: usize = 5_000;
/// Statements of one batch: Cassandra counts them in 16 bits.
pub const CASSANDRA_BATCH_STATEMENTS_MAX: usize = 65_535;
/// Bytes of one batch: half of the 16 MiB that a mutation and a frame may have.
pub const CASSANDRA_BATCH_BYTES_MAX: usize = 8 * MIB;
const _: () = assert!(FLUSH_BYTES_MAX <= CASSANDRA_BATCH_BYTES_MAX);
/// Rows of one batch into `samples`, about 150 B each: larger ones are not faster.
pub const CASSANDRA_SAMPLES_BATCH_ROWS: usize = 1_000;
/// Batches of one write in flight: with as many writes as usual, 16 × 4 × 150 KB = 10 MB on the way.
pub const CASSANDRA_SAMPLES_BATCHES_AT_ONCE: usize = 4;
/// Rows of a page read from `samples`, about 200 B each.
pub const CASSANDRA_SAMPLES_PAGE_ROWS: i32 = 5_000;
/// Rows of a page read from Cassandra: 200 × 0.5 MiB (the largest chunk) = 100 MiB at worst, 100 KiB of `wide`.
pub const CASSANDRA_PAGE_ROWS: i32 = 200;
/// Extents that a process remembers to have written: 256 devices × 16 buckets of live data and backlog,
/// about 200 B each.
pub const EXTENTS_REMEMBERED_MAX: usize = 4_096;
const _: () = assert!(EXTENTS_REMEMBERED_MAX >= 16 * DEVICES_MAX);

/// Partitions that a reader asks for ahead of the one it decodes; at most 100 MB each, so fewer where
/// they are large (see [`READ_AHEAD_BYTES_MAX`]).
pub const READ_AHEAD_MAX: usize = 4;
/// Bytes that reading ahead aims to stay below, judged by the last partition's size.
pub const READ_AHEAD_BYTES_MAX: usize = 64 * MIB;
/// Samples that a reader decodes at once: 16 MiB at 32 B each, twice that while they are sorted.
pub const READ_BLOCK_SAMPLES: usize = 512 * 1024;
/// Attempts at one read of a store that is not reachable, over about 4 s of waiting.
pub const READ_ATTEMPTS_MAX: u32 = 4;
/// The longest bucket, µs (`chunk::bucket_length_us`). A reader counts on it and not on the length in an
/// extent: two runs that share a bucket's start share that row.
pub const BUCKET_US_MAX: i64 = 60_000_000;
/// The same where each sample is a row (`chunk::samples_bucket_length_us`).
pub const SAMPLES_BUCKET_US_MAX: i64 = 3_600_000_000;
const _: () = assert!(BUCKET_US_MAX <= SAMPLES_BUCKET_US_MAX);
/// A boot with a clock mapping may have been placed by another one that was overwritten since, µs off by
/// this at most: gateways differ by their transport's delay.
pub const PLACEMENT_SLACK_US: i64 = 10_000_000;
/// Ranges by which a reader looks for what a device's corrected clocks have moved: a car that starts without a clock
/// twice a day has one for each start, and 64 of them leave days of 1970 apart from today.
pub const READ_SHIFTS_MAX: usize = 64;
/// Faults that a reader describes; the rest are counted.
pub const READ_FAULTS_LISTED_MAX: usize = 20;
/// Blocks between a reader and the thread that writes them: each at most 2 × 16 MiB.
pub const EXPORT_BLOCKS_MAX: usize = 2;
/// Rows of one Parquet row group: 36 MiB of columns while it is gathered.
pub const PARQUET_GROUP_ROWS_MAX: usize = 1_000_000;
/// Columns of a wide table: more than any car has channels.
pub const WIDE_COLUMNS_MAX: usize = 10_000;
/// Cells of a wide table that are gathered before they are written, 9 B each: 9 MiB.
pub const WIDE_BATCH_CELLS: usize = 1024 * 1024;
/// Cells of a wide table's Parquet row group: 64 MiB while it is gathered, encoded.
pub const WIDE_GROUP_CELLS: usize = 8 * WIDE_BATCH_CELLS;
const _: () = assert!(WIDE_COLUMNS_MAX < WIDE_BATCH_CELLS);
/// Rows of one batch of an Arrow stream: 3 MiB.
pub const ARROW_BATCH_ROWS: usize = 64 * 1024;
/// Bytes of one line of a manifest; a slot's line has about 200.
pub const MANIFEST_LINE_BYTES_MAX: usize = 64 * 1024;
/// Channels that are named as not in the manifest; the rest are counted.
pub const UNLISTED_NAMED_MAX: usize = 1_000;
