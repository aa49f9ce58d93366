//! The way of frames out of a port: encoding, faults, waiting, unplugging.

use std::time::{Duration, Instant};

use pitwire_wire::limits::STREAM_BYTES_MAX;
use pitwire_wire::{FrameKind, Payload, decode, frame_to_stream};
use tracing::{info, warn};

use super::inject::Touched;
use super::rig::{DeviceSummary, QUEUE_FRAMES};
use super::target::{Patience, Target};
use crate::device::Queue;
use crate::error::{Error, Result};
use crate::link::{Line, Mqtt, Pty};
use crate::manifest::Manifest;
use crate::options::Output;
use crate::stop::Stop;

/// A reader is given this long after it opened the line, before the first byte comes: some set
/// their modes and empty the buffer first.
const SETTLE: Duration = Duration::from_millis(100);
/// A serial port that is gone is tried again this often.
const REOPEN_EVERY: Duration = Duration::from_millis(500);
/// A poll for progress.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// The transport behind a port.
pub(super) enum Link {
    /// Bytes; `None` while it is unplugged.
    Line(Option<Line>),
    Mqtt(Mqtt),
}

/// What a line is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plug {
    /// Frames go through.
    In,
    /// Out until that time after the start.
    Out { until: Duration },
    /// Plugged in; nobody has opened it yet, or opened it only just.
    Waiting { opened_at: Option<Instant> },
    /// A port that failed and is tried again.
    Lost { tried_at: Instant },
}

/// Told of a new path when a pseudo-terminal was made anew.
pub(super) type OnPort<'w> = &'w (dyn Fn(&std::path::Path) + Sync);

/// A port's way out, shared by its devices.
pub(super) struct Wire<'w> {
    pub(super) output: Output,
    pub(super) link: Link,
    pub(super) plug: Plug,
    baud: u32,
    block: bool,
    /// Simulated time since the port began to send.
    pub(super) elapsed: Duration,
    pub(super) targets: Vec<Target>,
    manifest: Option<&'w Manifest>,
    on_port: OnPort<'w>,
    encoded: Vec<u8>,
    packets: Vec<Vec<u8>>,
    touched: Vec<Touched>,
}

impl<'w> Wire<'w> {
    pub(super) fn line(
        output: Output,
        line: Line,
        baud: u32,
        block: bool,
        manifest: Option<&'w Manifest>,
        on_port: OnPort<'w>,
    ) -> Self {
        let plug = match output {
            Output::Pty { .. } => Plug::Waiting { opened_at: None },
            _ => Plug::In,
        };
        Self::new(output, Link::Line(Some(line)), plug, baud, block, manifest, on_port)
    }

    pub(super) fn mqtt(output: Output, mqtt: Mqtt, manifest: Option<&'w Manifest>, on_port: OnPort<'w>) -> Self {
        Self::new(output, Link::Mqtt(mqtt), Plug::In, 0, true, manifest, on_port)
    }

    fn new(
        output: Output,
        link: Link,
        plug: Plug,
        baud: u32,
        block: bool,
        manifest: Option<&'w Manifest>,
        on_port: OnPort<'w>,
    ) -> Self {
        Self {
            output,
            link,
            plug,
            baud,
            block,
            elapsed: Duration::ZERO,
            targets: Vec::new(),
            manifest,
            on_port,
            encoded: vec![0; STREAM_BYTES_MAX],
            packets: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Waits until somebody listens; false if told to stop before.
    pub(super) fn await_reader(&mut self, stop: &Stop) -> bool {
        while matches!(self.plug, Plug::Waiting { .. }) {
            if stop.is_stopped() {
                return false;
            }
            self.tend();
            if matches!(self.plug, Plug::Waiting { .. }) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.greet();
        true
    }

    /// The one delimiter before the first frame: what an earlier sender left half-done ends here.
    fn greet(&mut self) {
        if let Link::Line(Some(line)) = &mut self.link
            && let Err(e) = line.send(&[0])
        {
            self.lose(&e);
        }
    }

    /// What is to be done from time to time: looks who opens and closes, plugs in again.
    pub(super) fn tend(&mut self) {
        match self.plug {
            Plug::In => {
                if let Link::Line(Some(line)) = &mut self.link
                    && let Some(pty) = line.as_pty()
                {
                    pty.was_opened();
                }
            }
            Plug::Out { until } if self.elapsed >= until => self.plug_in(),
            Plug::Out { .. } => {}
            Plug::Waiting { opened_at } => {
                let Link::Line(Some(line)) = &mut self.link else { return };
                let opened = line.as_pty().is_none_or(Pty::was_opened);
                match opened_at {
                    None if opened => self.plug = Plug::Waiting { opened_at: Some(Instant::now()) },
                    Some(at) if at.elapsed() >= SETTLE => self.resume(),
                    _ => {}
                }
            }
            Plug::Lost { tried_at } if tried_at.elapsed() >= REOPEN_EVERY => self.plug_in(),
            Plug::Lost { .. } => {}
        }
    }

    /// The cable comes out.
    pub(super) fn unplug(&mut self, until: Duration) {
        if let Link::Line(line) = &mut self.link {
            *line = None;
            self.plug = Plug::Out { until };
        }
    }

    fn plug_in(&mut self) {
        let line = match &self.output {
            Output::Pty { link } => Pty::create(link.as_deref()).map(|pty| {
                (self.on_port)(pty.path());
                (Line::pty(pty), Plug::Waiting { opened_at: None })
            }),
            Output::Serial { path } => Line::open(path, self.baud).map(|line| (line, Plug::In)),
            Output::Mqtt(_) => return,
        };
        match line {
            Ok((line, plug)) => {
                self.link = Link::Line(Some(line));
                self.plug = plug;
                if plug == Plug::In {
                    self.resume();
                }
            }
            Err(e) => {
                if !matches!(self.plug, Plug::Lost { .. }) {
                    warn!("{e}; trying again");
                }
                self.plug = Plug::Lost { tried_at: Instant::now() };
            }
        }
    }

    /// Frames go through again.
    fn resume(&mut self) {
        self.plug = Plug::In;
        if self.elapsed > Duration::ZERO {
            info!("plugged in again");
            self.greet();
        }
        self.account_missing();
    }

    /// The port failed by itself.
    fn lose(&mut self, error: &Error) {
        warn!("{error}; frames are lost until it is back");
        self.link = Link::Line(None);
        self.plug = Plug::Lost { tried_at: Instant::now() };
    }

    /// Writes down what was lost while unplugged.
    pub(super) fn account_missing(&mut self) {
        for target in &mut self.targets {
            target.account_missing(self.manifest);
        }
    }

    /// Sends what a device holds, as far as the line takes it.
    pub(super) fn drain(
        &mut self,
        rig: usize,
        queue: &mut Queue<QUEUE_FRAMES>,
        summary: &mut DeviceSummary,
        stop: &Stop,
    ) {
        while !queue.is_empty() {
            match &mut self.link {
                Link::Line(Some(line)) if self.plug == Plug::In => match line.ready() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(e) => {
                        self.lose(&e);
                        continue;
                    }
                },
                Link::Line(_) => {
                    let Some(frame) = queue.pop() else { return };
                    let target = &mut self.targets[rig];
                    if let Some((_, known)) = target.injector.release() {
                        summary.samples_hit += target.miss(&known, self.manifest);
                    }
                    if let Some(known) = target.injector.know(&frame) {
                        summary.samples_hit += target.miss(&known, self.manifest);
                    }
                    continue;
                }
                Link::Mqtt(_) => {}
            }
            let Some(frame) = queue.pop() else { return };
            self.send(rig, &frame, summary, stop);
        }
    }

    /// Makes room in a device's queue, if it is worth waiting for.
    pub(super) fn make_room(
        &mut self,
        rig: usize,
        queue: &mut Queue<QUEUE_FRAMES>,
        summary: &mut DeviceSummary,
        stop: &Stop,
    ) {
        self.drain(rig, queue, summary, stop);
        let mut patience = Patience::new();
        while self.block && queue.is_full() {
            // While it runs it waits for ever: that is what was asked for.
            let unread = self.unread();
            if stop.is_aborted() || (stop.is_stopped() && !patience.has(unread)) {
                return;
            }
            self.wait(TICK);
            self.tend();
            self.drain(rig, queue, summary, stop);
        }
    }

    /// Waits until the line may take more, at most so long.
    pub(super) fn wait(&self, at_most: Duration) {
        match &self.link {
            Link::Line(Some(line)) => line.wait(at_most),
            _ => std::thread::sleep(at_most),
        }
    }

    /// Whether the line still holds a part of a frame; tries to hand it over.
    pub(super) fn is_busy(&mut self) -> bool {
        match &mut self.link {
            Link::Line(Some(line)) if self.plug == Plug::In => match line.ready() {
                Ok(ready) => !ready,
                Err(e) => {
                    self.lose(&e);
                    false
                }
            },
            _ => false,
        }
    }

    pub(super) fn unread(&self) -> u64 {
        match &self.link {
            Link::Line(Some(line)) => line.unread(),
            _ => 0,
        }
    }

    fn send(&mut self, rig: usize, frame: &[u8], summary: &mut DeviceSummary, stop: &Stop) {
        let target = &mut self.targets[rig];
        match &mut self.link {
            Link::Mqtt(mqtt) => {
                if let Some(part) = describe_part(frame) {
                    let topic = format!("{}/describe/{part}", target.topic());
                    take(mqtt.publish(&topic, true, frame, stop), frame, target, summary);
                    return;
                }
                let topic = target.topic();
                if target.injector.is_idle() {
                    take(mqtt.publish(&topic, false, frame, stop), frame, target, summary);
                    return;
                }
                target.injector.pass(frame, frame, self.elapsed, &mut self.packets, &mut self.touched);
                for packet in self.packets.drain(..) {
                    mqtt.publish(&topic, false, &packet, stop);
                }
            }
            Link::Line(Some(line)) => {
                let Ok(bytes) = frame_to_stream(frame, &mut self.encoded) else { return };
                let encoded = &self.encoded[..bytes];
                if target.injector.is_idle() {
                    if let Err(e) = line.send(encoded) {
                        self.lose(&e);
                    }
                    return;
                }
                target.injector.pass(frame, encoded, self.elapsed, &mut self.packets, &mut self.touched);
                let mut failure = None;
                for packet in self.packets.drain(..) {
                    let large = packet.len() > STREAM_BYTES_MAX;
                    let sent = line.send(&packet).and_then(|()| if large { all_taken(line, stop) } else { Ok(()) });
                    failure = failure.or(sent.err());
                }
                if let Some(e) = failure {
                    self.lose(&e);
                }
            }
            Link::Line(None) => {}
        }
        self.account_touched(rig, summary);
    }

    fn account_touched(&mut self, rig: usize, summary: &mut DeviceSummary) {
        let target = &self.targets[rig];
        for touched in self.touched.drain(..) {
            if touched.lost {
                summary.samples_hit += touched.samples;
            }
            target.fault(self.manifest, &touched);
        }
    }

    /// Writes a fault of the device itself into the manifest: between two frames.
    pub(super) fn note(&self, rig: usize, fault: &'static str, boot: u32, sequence: u32) {
        let touched = Touched { fault, boot, seq_from: sequence, seq_to: sequence, samples: 0, lost: false };
        self.targets[rig].fault(self.manifest, &touched);
    }

    /// A frame that waits for a neighbour goes out alone: there is none any more.
    pub(super) fn release(&mut self, rig: usize, summary: &mut DeviceSummary, stop: &Stop) {
        let Some((bytes, known)) = self.targets[rig].injector.release() else { return };
        match &mut self.link {
            Link::Line(Some(line)) if self.plug == Plug::In => {
                if let Err(e) = line.send(&bytes) {
                    self.lose(&e);
                }
            }
            Link::Line(_) => summary.samples_hit += self.targets[rig].miss(&known, self.manifest),
            Link::Mqtt(mqtt) => {
                mqtt.publish(&self.targets[rig].topic(), false, &bytes, stop);
            }
        }
    }
}

/// Waits until a large packet was taken, so that it does not cost frames; gives up with a reader
/// that does not read.
fn all_taken(line: &mut Line, stop: &Stop) -> Result<()> {
    let mut patience = Patience::new();
    while !line.ready()? && !stop.is_aborted() && patience.has(line.unread()) {
        line.wait(TICK);
    }
    Ok(())
}

/// A message that the broker never took, because the end was near.
fn take(taken: bool, frame: &[u8], target: &Target, summary: &mut DeviceSummary) {
    if !taken {
        summary.frames_dropped += 1;
        summary.samples_dropped += target.injector.know(frame).map_or(0, |known| known.samples);
    }
}

/// The part of a Describe.
fn describe_part(frame: &[u8]) -> Option<u8> {
    if frame.get(1) != Some(&FrameKind::Describe.code()) {
        return None;
    }
    match decode(frame) {
        Ok((_, Payload::Describe(part))) => Some(part.part),
        _ => None,
    }
}
