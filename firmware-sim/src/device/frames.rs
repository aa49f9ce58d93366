//! The device itself: raw values in, frames out.

use heapless::Vec;
use pitwire_wire::limits::{burst_values_max, scan_rows_max};
use pitwire_wire::{
    Burst, ChannelEntry, DescribeParts, DeviceName, EncodeError, Event, EventKind, FRAME_BYTES_DEFAULT, Header,
    Payload, Scan, ScanWriter, Status, Value, ValueKind, Values, catalogue_revision, describe_parts, encode,
};

use super::clock::Clock;
use super::lane::{LANES_MAX, Lane, LaneConfig};
use super::queue::{Made, Outbox};

/// The catalogue is sent again this often, for receivers that came later.
pub const DESCRIBE_EVERY_MS: u64 = 2_000;
/// The device's own account is sent this often.
pub const STATUS_EVERY_MS: u64 = 1_000;

const NS_PER_MS: u64 = 1_000_000;

/// A device: its clock, its boot, its sequence, its lanes.
#[derive(Debug)]
pub struct Device<'c> {
    name: DeviceName,
    clock: Clock,
    boot: u32,
    sequence: u32,
    channels: &'c [ChannelEntry<'c>],
    catalogue: u32,
    lanes: Vec<Lane, LANES_MAX>,
    /// Parts of a repeated catalogue that are still to be sent, one for each tick.
    describing: Option<DescribeParts<'c>>,
    described_at_ns: Option<u64>,
    status_at_ns: u64,
    samples_made: u64,
    samples_dropped: u64,
    resets: u32,
    scratch: [u8; FRAME_BYTES_DEFAULT],
}

impl<'c> Device<'c> {
    /// A device that starts now.
    ///
    /// `channels` is its catalogue in ascending id; a lane's Scans hold the channels of its group.
    ///
    /// # Errors
    /// [`EncodeError`] if the catalogue breaks a rule of the wire, a row does not fit in a frame,
    /// a period is below 1 µs, or there are more than [`LANES_MAX`] lanes.
    pub fn new(
        name: DeviceName,
        clock: Clock,
        boot: u32,
        channels: &'c [ChannelEntry<'c>],
        lanes: &[LaneConfig],
    ) -> Result<Self, EncodeError> {
        let device_bytes = name.as_str().len();
        // Fails here rather than at the first Describe.
        describe_parts(channels, clock.base(), FRAME_BYTES_DEFAULT, device_bytes)?;
        let mut made = Vec::new();
        for &config in lanes {
            let in_row = || channels.iter().filter(|c| config.group != 0 && c.group == config.group);
            let row_bytes = in_row().map(|c| c.kind.bytes()).sum();
            let fits = config.group == 0 || scan_rows_max(FRAME_BYTES_DEFAULT, device_bytes, row_bytes) > 0;
            if config.period_ns < 1_000 {
                return Err(EncodeError::Field("period_ns"));
            }
            if !fits {
                return Err(EncodeError::TooLong);
            }
            let lane = Lane::new(config, row_bytes, in_row().count() as u32);
            made.push(lane).map_err(|_| EncodeError::Field("lanes"))?;
        }
        Ok(Self {
            name,
            clock,
            boot,
            sequence: 0,
            channels,
            catalogue: catalogue_revision(channels)?,
            lanes: made,
            describing: None,
            described_at_ns: None,
            status_at_ns: 0,
            samples_made: 0,
            samples_dropped: 0,
            resets: 0,
            scratch: [0; FRAME_BYTES_DEFAULT],
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &DeviceName {
        &self.name
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Its clock, to advance it or let it drift. To step it, see [`Device::step_clock`].
    pub fn clock_mut(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// This boot's number.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// The sequence that the next frame gets.
    #[must_use]
    pub fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// Its lanes, in the order they were given.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Samples in all frames of this boot, and how many of them were dropped by the device.
    #[must_use]
    pub fn samples(&self) -> (u64, u64) {
        (self.samples_made, self.samples_dropped)
    }

    /// How many values of a kind fit in a Burst of this device.
    #[must_use]
    pub fn burst_values_max(&self, kind: ValueKind) -> usize {
        burst_values_max(FRAME_BYTES_DEFAULT, self.name.as_str().len(), kind)
    }

    /// Housekeeping; call it every few milliseconds. The catalogue is sent whole at boot and then
    /// every [`DESCRIBE_EVERY_MS`], a part for each tick; the status every [`STATUS_EVERY_MS`].
    ///
    /// # Errors
    /// [`EncodeError`] if a frame cannot be made, which [`Device::new`] has ruled out.
    pub fn tick(&mut self, out: &mut impl Outbox) -> Result<(), EncodeError> {
        let now_ns = self.clock.local_ns();
        let due = |at_ns: u64, every_ms: u64| now_ns >= at_ns + every_ms * NS_PER_MS;
        match self.described_at_ns {
            None => {
                self.describe()?;
                while self.describe_part(out)? {}
            }
            Some(at_ns) if due(at_ns, DESCRIBE_EVERY_MS) => self.describe()?,
            Some(_) => {}
        }
        self.describe_part(out)?;
        if due(self.status_at_ns, STATUS_EVERY_MS) {
            self.status_at_ns = now_ns;
            self.status(out)?;
        }
        Ok(())
    }

    /// Begins to send the catalogue, as after a change.
    ///
    /// # Errors
    /// See [`Device::tick`].
    pub fn describe(&mut self) -> Result<(), EncodeError> {
        self.described_at_ns = Some(self.clock.local_ns());
        let device_bytes = self.name.as_str().len();
        let parts = describe_parts(self.channels, self.clock.base(), FRAME_BYTES_DEFAULT, device_bytes)?;
        self.describing = Some(parts);
        Ok(())
    }

    fn describe_part(&mut self, out: &mut impl Outbox) -> Result<bool, EncodeError> {
        let Some(part) = self.describing.as_mut().and_then(Iterator::next) else {
            self.describing = None;
            return Ok(false);
        };
        self.emit(self.clock.now_us(), &Payload::Describe(part), 0, out)?;
        Ok(true)
    }

    /// Sends the device's own account now.
    ///
    /// # Errors
    /// See [`Device::tick`].
    pub fn status(&mut self, out: &mut impl Outbox) -> Result<(), EncodeError> {
        let status =
            Status { samples_before: self.samples_made, samples_dropped: self.samples_dropped, resets: self.resets };
        self.emit(self.clock.now_us(), &Payload::Status(status), 0, out)
    }

    /// Sends an event now.
    ///
    /// # Errors
    /// [`EncodeError`] if the text is longer than 255 bytes.
    pub fn event(
        &mut self,
        kind: EventKind,
        number: i64,
        text: &str,
        out: &mut impl Outbox,
    ) -> Result<(), EncodeError> {
        let event = Event { kind, number, text };
        self.emit(self.clock.now_us(), &Payload::Event(event), 0, out)
    }

    /// Takes the next row of a Scan lane: the values of its channels in ascending id.
    ///
    /// # Errors
    /// [`EncodeError::Field`] if there is no such lane or the row has another length than the
    /// catalogue says.
    pub fn row(&mut self, lane: usize, values: &[Value], out: &mut impl Outbox) -> Result<(), EncodeError> {
        let device_bytes = self.name.as_str().len();
        let state = self.lanes.get_mut(lane).ok_or(EncodeError::Field("lane"))?;
        let rows_max = scan_rows_max(FRAME_BYTES_DEFAULT, device_bytes, state.row_bytes);
        let row_bytes: usize = values.iter().map(|v| v.kind().bytes()).sum();
        if state.config.group == 0 || row_bytes != state.row_bytes {
            return Err(EncodeError::Field("row"));
        }
        if state.rows == 0 {
            state.first = state.next;
        }
        let at = state.data.len();
        state.data.resize(at + row_bytes, 0).map_err(|_| EncodeError::BufferFull)?;
        let mut writer = ScanWriter::new(&mut state.data[at..]);
        values.iter().try_for_each(|&value| writer.push(value))?;
        state.rows += 1;
        state.next += 1;
        if usize::from(state.rows) >= rows_max || state.would_age(state.first, state.next) {
            self.close_rows(lane, out)?;
        }
        Ok(())
    }

    /// Sends the rows that a lane holds.
    fn close_rows(&mut self, lane: usize, out: &mut impl Outbox) -> Result<(), EncodeError> {
        let Some(state) = self.lanes.get_mut(lane) else { return Ok(()) };
        if state.rows == 0 {
            return Ok(());
        }
        let (group, period_ns, count) = (state.config.group, state.wire_period_ns(), state.rows);
        let t0_us = self.clock.time_us(state.due_ns(state.first));
        let samples = u32::from(count) * state.row_channels;
        let data = core::mem::take(&mut state.data);
        state.rows = 0;
        let scan = Scan { group, period_ns, count, data: &data };
        self.emit(t0_us, &Payload::Scan(scan), samples, out)
    }

    /// Sends a Burst of one channel of a lane: its samples from index `first` on. The caller holds
    /// the values until they fill a frame, as a DMA buffer would.
    ///
    /// # Errors
    /// [`EncodeError`] if there is no such lane, or the values do not fit in a frame.
    pub fn burst(
        &mut self,
        lane: usize,
        channel: u16,
        first: u64,
        values: Values<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), EncodeError> {
        let state = self.lanes.get(lane).ok_or(EncodeError::Field("lane"))?;
        let t0_us = self.clock.time_us(state.due_ns(first));
        let burst = Burst { channel, period_ns: state.wire_period_ns(), values };
        let samples = values.len() as u32;
        self.emit(t0_us, &Payload::Burst(burst), samples, out)
    }

    /// Notes that the samples of a Burst lane before `index` were read.
    pub fn taken(&mut self, lane: usize, index: u64) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.next = state.next.max(index);
        }
    }

    /// Sends all rows that are held, before a pause or a step of the clock.
    ///
    /// # Errors
    /// See [`Device::tick`].
    pub fn flush(&mut self, out: &mut impl Outbox) -> Result<(), EncodeError> {
        (0..self.lanes.len()).try_for_each(|lane| self.close_rows(lane, out))
    }

    /// The device loses power and starts again: rows that it held are gone, the sequence begins at
    /// 0, and a clock of base `boot` too.
    pub fn reboot(&mut self, boot: u32) {
        self.resets = self.resets.saturating_add(1);
        self.clock.restart();
        self.begin(boot);
    }

    /// Its clock is stepped by so many µs. A step back begins the boot `next_boot`; call
    /// [`Device::flush`] first, and hand over Bursts that are held.
    pub fn step_clock(&mut self, by_us: i64, next_boot: u32) {
        self.lanes.iter_mut().for_each(Lane::clear);
        self.clock.step(by_us);
        if by_us < 0 {
            self.clock.rebase();
            self.begin(next_boot);
        }
    }

    fn begin(&mut self, boot: u32) {
        self.boot = boot;
        self.sequence = 0;
        self.samples_made = 0;
        self.samples_dropped = 0;
        self.describing = None;
        self.described_at_ns = None;
        self.status_at_ns = 0;
        for lane in &mut self.lanes {
            lane.clear();
            lane.next = 0;
        }
    }

    fn emit(
        &mut self,
        t0_us: i64,
        payload: &Payload<'_>,
        samples: u32,
        out: &mut impl Outbox,
    ) -> Result<(), EncodeError> {
        let header = Header {
            catalogue: self.catalogue,
            boot: self.boot,
            sequence: self.sequence,
            t0_us,
            device: self.name.clone(),
        };
        let bytes = encode(&header, payload, &mut self.scratch)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.samples_made += u64::from(samples);
        let made = Made { header: &header, payload, samples, frame: &self.scratch[..bytes] };
        if out.put(&made).is_err() {
            self.samples_dropped += u64::from(samples);
        }
        Ok(())
    }
}
