//! The appends that wait together: joined into one commit, and answered.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use super::config::{GROUP_BYTES_MAX, SEGMENT_RECORDS_MAX};
use super::stats::AppendError;
use super::writer::{Append, Command, Fault, Writer};

impl Writer {
    /// The appends that wait, as long as they fit into one commit, and the
    /// command that ended the row.
    pub(super) fn gather(&self, first: Append, commands: &Receiver<Command>) -> (Vec<Append>, Option<Command>) {
        let config = &self.shared.config;
        let bytes_max = GROUP_BYTES_MAX.min(config.segment_bytes.as_u64());
        let (mut bytes, mut records) = (first.bytes, first.records.len());
        let mut group = vec![first];
        loop {
            match commands.try_recv() {
                Ok(Command::Append(next))
                    if bytes + next.bytes <= bytes_max && records + next.records.len() <= SEGMENT_RECORDS_MAX =>
                {
                    bytes += next.bytes;
                    records += next.records.len();
                    group.push(next);
                }
                Ok(other) => return (group, Some(other)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return (group, None),
            }
        }
    }

    pub(super) fn answer_group(&mut self, group: Vec<Append>) {
        self.last_append = Instant::now();
        let result = self.commit(&group);
        {
            let mut state = self.shared.state();
            state.counts.failing = matches!(result, Err(Fault::Io(_)));
        }
        match result {
            Ok(positions) => {
                let mut positions = positions.into_iter();
                for append in group {
                    let own = positions.by_ref().take(append.records.len()).collect();
                    let _ = append.answer.send(Ok(own));
                    drop(append.permit);
                }
                self.shared.readable.notify_waiters();
            }
            Err(fault) => {
                for append in group {
                    let records = append.records;
                    let error = match &fault {
                        Fault::Full(reason) => AppendError::Full { records, reason: reason.clone() },
                        Fault::Io(source) => AppendError::Io { records, source: copy_of(source) },
                    };
                    let _ = append.answer.send(Err(error));
                    drop(append.permit);
                }
            }
        }
    }
}

/// Gives back what came after the closing.
pub(super) fn refuse_all(commands: &Receiver<Command>) {
    while let Ok(command) = commands.try_recv() {
        if let Command::Append(append) = command {
            let records = append.records;
            let _ = append.answer.send(Err(AppendError::Closed { records }));
        }
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    let in_words = || io::Error::new(error.kind(), error.to_string());
    error.raw_os_error().map_or_else(in_words, io::Error::from_raw_os_error)
}
