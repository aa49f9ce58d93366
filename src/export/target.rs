//! Where an export goes: stdout, where what went went, or a file, that an interrupted export goes on with.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::mapping::ClockDigests;
use super::merge::{Block, ReadCounts};
use super::pieces::{Pieces, State};
use super::plan::{ChannelFilter, Query};
use super::shape::Shape;
use super::sink::Sink;
use super::wide::{Column, ColumnsError, Joiner, columns};
use super::{ExportError, ExportOptions};
use crate::row::ChannelRow;

pub(super) enum Target {
    /// Without a sink until it is known what the rows are.
    Stdout(Option<Box<dyn Sink<BufWriter<io::Stdout>>>>),
    File(Box<Pieces>),
}

impl Target {
    pub(super) fn open(options: &ExportOptions) -> Result<Self, ExportError> {
        match &options.output {
            Some(path) => Ok(Self::File(Box::new(Pieces::open(path, options)?))),
            None => Ok(Self::Stdout(None)),
        }
    }

    /// The range that is left to read, and what was met before it.
    pub(super) fn left(&self, options: &ExportOptions) -> (Query, ReadCounts) {
        let channels = ChannelFilter::new(&options.channels);
        let ([rows_from, to_us], counts) = self.rows_left(options);
        let from_us = match &options.wide {
            Some(wide) => rows_from.map(|from| wide.read_from(from)),
            None => rows_from,
        };
        (Query { from_us, to_us, channels }, counts)
    }

    /// From and before which time rows are left to write.
    fn rows_left(&self, options: &ExportOptions) -> ([Option<i64>; 2], ReadCounts) {
        match self {
            Self::Stdout(_) => ([options.from, options.to].map(|at| at.map(|at| at.0)), ReadCounts::default()),
            Self::File(pieces) => {
                let State { from_us, to_us, until_us, counts, .. } = &pieces.state;
                let until_us = until_us.map(|until| options.wide.as_ref().map_or(until, |wide| wide.rows_from(until)));
                ([(*from_us).max(until_us), *to_us], counts.clone())
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

    /// Before the first block: the devices `described` these channels.
    pub(super) fn begin(&mut self, options: &ExportOptions, described: &[ChannelRow]) -> Result<(), ExportError> {
        let shape = match &options.wide {
            None => Shape::Long,
            Some(wide) => {
                let failed = |error: ColumnsError| ExportError::Wide(error.to_string());
                let found = || columns(described, &ChannelFilter::new(&options.channels));
                let all: Vec<Column> = match self {
                    Self::Stdout(_) => found().map_err(failed)?,
                    Self::File(pieces) => pieces.columns_or(found).map_err(failed)?,
                };
                let range = self.rows_left(options).0;
                let joiner = Joiner::new(wide.clone(), &all, &options.cars, range).map_err(failed)?;
                Shape::Wide(Arc::new(Mutex::new(joiner)))
            }
        };
        match self {
            Self::Stdout(sink) => {
                let opened = shape.sink(options.format, BufWriter::new(io::stdout()), true);
                *sink = Some(opened.map_err(|source| ExportError::Output { target: "stdout".into(), source })?);
            }
            Self::File(pieces) => pieces.begin(shape),
        }
        Ok(())
    }

    pub(super) fn write(&mut self, block: Block, counts: &ReadCounts) -> io::Result<()> {
        match self {
            Self::Stdout(sink) => sink.as_mut().map_or(Ok(()), |sink| sink.write(block)),
            Self::File(pieces) => pieces.write(block, counts),
        }
    }

    pub(super) fn commit(self, counts: &ReadCounts) -> io::Result<()> {
        match self {
            Self::Stdout(sink) => sink.map_or(Ok(()), |sink| sink.finish(true)?.flush()),
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
