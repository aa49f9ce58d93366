//! JSON lines: the fields of the CSV; a value that is no finite number is `null`.

use std::io::{self, Write};

use super::merge::{Block, Series};
use super::sink::{Sink, TEXT_BUFFER_BYTES, write_f64};
use super::time::Rfc3339;

/// Writes JSON lines.
pub(super) struct JsonlSink<W> {
    out: W,
    buffer: Vec<u8>,
    time: Rfc3339,
    /// `,"car":…,"device":…,"channel":…,"value":` of each series.
    names: Vec<Vec<u8>>,
}

impl<W: Write> JsonlSink<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, buffer: Vec::new(), time: Rfc3339::default(), names: Vec::new() }
    }
}

impl<W: Write + Send> Sink<W> for JsonlSink<W> {
    fn write(&mut self, block: Block) -> io::Result<()> {
        for Series { car, device, channel, .. } in &block.series[self.names.len().min(block.series.len())..] {
            let mut names = Vec::new();
            for (key, name) in [("car", car), ("device", device), ("channel", channel)] {
                write!(names, ",\"{key}\":")?;
                serde_json::to_writer(&mut names, &**name)?;
            }
            names.extend_from_slice(b",\"value\":");
            self.names.push(names);
        }
        for sample in &block.samples {
            let index = sample.series as usize;
            self.buffer.extend_from_slice(b"{\"time\":\"");
            self.time.write(sample.t_us, &mut self.buffer);
            write!(self.buffer, "\",\"t_us\":{}", sample.t_us)?;
            self.buffer.extend_from_slice(&self.names[index]);
            if sample.value.is_finite() {
                write_f64(&mut self.buffer, sample.value);
            } else {
                self.buffer.extend_from_slice(b"null");
            }
            self.buffer.extend_from_slice(b",\"unit\":");
            serde_json::to_writer(&mut self.buffer, &**block.series[index].unit(sample.t_us))?;
            writeln!(self.buffer, ",\"quality\":{}}}", sample.quality.0)?;
            if self.buffer.len() >= TEXT_BUFFER_BYTES {
                self.out.write_all(&self.buffer)?;
                self.buffer.clear();
            }
        }
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self: Box<Self>, _last: bool) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
