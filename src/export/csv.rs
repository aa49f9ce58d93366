//! CSV: `time,t_us,car,device,channel,value,unit,quality`.
//!
//! `time` is RFC 3339 with µs, `value` the shortest decimal that reads back as the same f64 (`NaN`, `inf`
//! and `-inf` where it is no number), `quality` the flags as a number, 0 for good.

use std::io::{self, Write};

use super::merge::{Block, Series};
use super::sink::{Sink, TEXT_BUFFER_BYTES, write_f64};
use super::time::Rfc3339;

const HEADER: &[u8] = b"time,t_us,car,device,channel,value,unit,quality\n";

/// Writes CSV.
pub(super) struct CsvSink<W> {
    out: W,
    buffer: Vec<u8>,
    time: Rfc3339,
    /// `,car,device,channel,` of each series.
    names: Vec<Vec<u8>>,
}

impl<W: Write> CsvSink<W> {
    /// `first`: with the header.
    pub(super) fn new(mut out: W, first: bool) -> io::Result<Self> {
        if first {
            out.write_all(HEADER)?;
        }
        Ok(Self { out, buffer: Vec::new(), time: Rfc3339::default(), names: Vec::new() })
    }
}

impl<W: Write + Send> Sink<W> for CsvSink<W> {
    fn write(&mut self, block: Block) -> io::Result<()> {
        for Series { car, device, channel, .. } in &block.series[self.names.len().min(block.series.len())..] {
            let mut names = vec![b','];
            for name in [car, device, channel] {
                quote(&mut names, name);
                names.push(b',');
            }
            self.names.push(names);
        }
        for sample in &block.samples {
            let index = sample.series as usize;
            self.time.write(sample.t_us, &mut self.buffer);
            write!(self.buffer, ",{}", sample.t_us)?;
            self.buffer.extend_from_slice(&self.names[index]);
            write_f64(&mut self.buffer, sample.value);
            self.buffer.push(b',');
            quote(&mut self.buffer, block.series[index].unit(sample.t_us));
            writeln!(self.buffer, ",{}", sample.quality.0)?;
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

/// A field, in quotes where it needs them.
pub(super) fn quote(out: &mut Vec<u8>, field: &str) {
    if !field.contains(['"', ',', '\n', '\r']) {
        out.extend_from_slice(field.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(field.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
