//! Where an export goes: stdout, where what went went, or a file, that an interrupted export goes on with.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use super::mapping::ClockDigests;
use super::merge::{Block, ReadCounts};
use super::pieces::{Pieces, State};
use super::plan::{ChannelFilter, Query};
use super::sink::{Sink, sink};
use super::{ExportError, ExportOptions};

pub(super) enum Target {
    Stdout(Box<dyn Sink<BufWriter<io::Stdout>>>),
    File(Box<Pieces>),
}

impl Target {
    pub(super) fn open(options: &ExportOptions) -> Result<Self, ExportError> {
        match &options.output {
            Some(path) => Ok(Self::File(Box::new(Pieces::open(path, options)?))),
            None => {
                let failed = |source| ExportError::Output { target: "stdout".into(), source };
                let out = BufWriter::new(io::stdout());
                Ok(Self::Stdout(sink(options.format, out, true).map_err(failed)?))
            }
        }
    }

    /// The range that is left to read, and what was met before it.
    pub(super) fn left(&self, options: &ExportOptions) -> (Query, ReadCounts) {
        let channels = ChannelFilter::new(&options.channels);
        match self {
            Self::Stdout(_) => {
                let [from_us, to_us] = [options.from, options.to].map(|at| at.map(|at| at.0));
                (Query { from_us, to_us, channels }, ReadCounts::default())
            }
            Self::File(pieces) => {
                let State { from_us, to_us, until_us, counts, .. } = &pieces.state;
                (Query { from_us: (*from_us).max(*until_us), to_us: *to_us, channels }, counts.clone())
            }
        }
    }

    /// What was met, if everything is there and only has to be put in place.
    pub(super) fn complete(&self) -> Option<ReadCounts> {
        match self {
            Self::File(pieces) if pieces.state.complete => Some(pieces.state.counts.clone()),
            _ => None,
        }
    }

    /// From here on samples are placed by these clocks. False if what is there was placed by others: it is gone then.
    pub(super) fn placed_by(&mut self, clocks: ClockDigests) -> bool {
        match self {
            Self::Stdout(_) => true,
            Self::File(pieces) => pieces.placed_by(clocks),
        }
    }

    pub(super) fn write(&mut self, block: Block, counts: &ReadCounts) -> io::Result<()> {
        match self {
            Self::Stdout(sink) => sink.write(block),
            Self::File(pieces) => pieces.write(block, counts),
        }
    }

    pub(super) fn commit(self, counts: &ReadCounts) -> io::Result<()> {
        match self {
            Self::Stdout(sink) => sink.finish()?.flush(),
            Self::File(pieces) => pieces.commit(counts),
        }
    }

    /// The folder that the next one goes on with, if this one ended here.
    pub(super) fn kept(&self) -> Option<PathBuf> {
        match self {
            Self::Stdout(_) => None,
            Self::File(pieces) => pieces.keeps().then(|| pieces.dir().to_owned()),
        }
    }
}
