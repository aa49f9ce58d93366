//! How a port ends: everything was read or acknowledged, or nobody reads any more.

use std::path::PathBuf;

use super::rig::{DeviceSummary, QUEUE_FRAMES};
use super::target::Patience;
use super::wire::{Link, Plug, TICK, Wire};
use crate::device::Queue;
use crate::link::READER_PATIENCE;
use crate::options::Output;
use crate::stop::Stop;

/// The kernel hands a terminal's bytes on in the background: nothing unread must hold this often.
const QUIET_TICKS: u32 = 6;

impl Wire<'_> {
    /// Waits until the reader has read everything, or the broker has acknowledged it.
    ///
    /// # Errors
    /// A sentence for the user, if it did not in time.
    pub(super) fn finish(&mut self, stop: &Stop) -> std::result::Result<(), String> {
        if let Link::Mqtt(mqtt) = &self.link {
            return mqtt.finish(stop);
        }
        let mut patience = Patience::new();
        let mut quiet = 0;
        while quiet < QUIET_TICKS {
            let Link::Line(Some(line)) = &mut self.link else { return Ok(()) };
            if self.plug != Plug::In {
                return Ok(());
            }
            if let Err(e) = line.ready() {
                return Err(e.to_string());
            }
            let unread = line.unread();
            quiet = if unread == 0 { quiet + 1 } else { 0 };
            if stop.is_aborted() || !patience.has(unread) {
                return Err(format!(
                    "{unread} bytes or more were not read: nothing was taken from {} for {} s",
                    self.name(),
                    READER_PATIENCE.as_secs()
                ));
            }
            std::thread::sleep(TICK);
        }
        match &self.link {
            Link::Line(Some(line)) if !line.drain(READER_PATIENCE) => {
                Err(format!("{} did not send its last bytes within {} s", self.name(), READER_PATIENCE.as_secs()))
            }
            _ => Ok(()),
        }
    }

    /// What the user calls the port.
    fn name(&self) -> String {
        let path = match &self.output {
            Output::Pty { link: Some(path) } | Output::Serial { path } => path.clone(),
            Output::Pty { link: None } => PathBuf::from("the pseudo-terminal"),
            Output::Mqtt(broker) => return broker.to_string(),
        };
        path.display().to_string()
    }

    /// Sends the rest of a device's queue, waiting for the reader; what it never takes counts as
    /// dropped.
    pub(super) fn finish_queue(
        &mut self,
        rig: usize,
        queue: &mut Queue<QUEUE_FRAMES>,
        summary: &mut DeviceSummary,
        stop: &Stop,
    ) {
        let mut patience = Patience::new();
        loop {
            self.drain(rig, queue, summary, stop);
            if queue.is_empty() {
                break;
            }
            if stop.is_aborted() || !patience.has(self.unread() + queue.len() as u64) {
                while let Some(frame) = queue.pop() {
                    let known = self.targets[rig].injector.know(&frame);
                    summary.frames_dropped += 1;
                    summary.samples_dropped += known.map_or(0, |known| known.samples);
                }
                break;
            }
            self.wait(TICK);
        }
        self.release(rig, summary, stop);
    }
}
