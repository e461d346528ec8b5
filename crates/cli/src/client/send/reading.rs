//! What is to be sent, as it is read: by a thread of its own, since reading blocks.
//!
//! *Invariant:* of what has been read and not been taken by the broker there are at most [`BYTES_MAX`], and as
//! much again that is just being read, whatever comes.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::arguments::SendArguments;
use crate::failure::Failure;

/// The largest message: as much as a producer's window holds.
const BYTES_MAX: usize = 64 << 20;
/// Room is counted in units of this.
const UNIT_BYTES: usize = 1024;
/// Messages that are read ahead.
const READ_AHEAD: usize = 100;

/// A message that was read.
pub(super) struct Message {
    /// Which of several, from 1 on.
    pub(super) line: u64,
    pub(super) body: Vec<u8>,
    /// To be held until the broker has it.
    pub(super) room: OwnedSemaphorePermit,
}

/// Why one was not.
pub(super) enum Unread {
    /// The others are.
    TooLong { line: u64 },
    /// It ends here.
    Failed(Failure),
}

pub(super) type Messages = mpsc::Receiver<Result<Message, Unread>>;

/// Begins to read what is asked for.
pub(super) fn messages(arguments: &SendArguments) -> Result<Messages, Failure> {
    let (sender, messages) = mpsc::channel(READ_AHEAD);
    let reader = Reader {
        sender,
        room: Arc::new(Semaphore::new(BYTES_MAX / UNIT_BYTES)),
        runtime: Handle::current(),
    };
    if let Some(body) = arguments.body.clone() {
        std::thread::spawn(move || reader.put(1, body.into_bytes()));
    } else if let Some(path) = arguments.lines.clone() {
        let lines = BufReader::new(open(&path)?);
        std::thread::spawn(move || reader.lines(&path, lines));
    } else {
        let path = arguments.file.clone().unwrap_or_else(|| PathBuf::from("-"));
        if arguments.file.is_none() && std::io::stdin().is_terminal() {
            let text = "there is no message: give it as an argument, with --file or --lines, or on \
                        standard input";
            return Err(Failure::Usage(text.to_owned()));
        }
        let file = open(&path)?;
        std::thread::spawn(move || reader.whole(&path, file));
    }
    Ok(messages)
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    Ok(Box::new(File::open(path).map_err(|error| cannot_read(path, &error))?))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Runtime(format!("cannot read {}: {error}", path.display()))
}

/// What is said of a message that is too long.
pub(super) fn too_long() -> String {
    format!(
        "it has more than {} MiB: put the content elsewhere, and send where it is",
        BYTES_MAX >> 20
    )
}

struct Reader {
    sender: mpsc::Sender<Result<Message, Unread>>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

impl Reader {
    /// `false`: nobody wants more.
    fn put(&self, line: u64, body: Vec<u8>) -> bool {
        let units = body.len().div_ceil(UNIT_BYTES).clamp(1, BYTES_MAX / UNIT_BYTES) as u32;
        let room = self.runtime.block_on(Arc::clone(&self.room).acquire_many_owned(units));
        room.is_ok_and(|room| self.sender.blocking_send(Ok(Message { line, body, room })).is_ok())
    }

    fn fail(&self, why: Unread) -> bool {
        self.sender.blocking_send(Err(why)).is_ok()
    }

    fn whole(&self, path: &Path, file: impl Read) -> bool {
        let mut body = Vec::new();
        match file.take(BYTES_MAX as u64 + 1).read_to_end(&mut body) {
            Ok(_) if body.len() > BYTES_MAX => self.fail(Unread::TooLong { line: 1 }),
            Ok(_) => self.put(1, body),
            Err(error) => self.fail(Unread::Failed(cannot_read(path, &error))),
        }
    }

    fn lines(&self, path: &Path, mut lines: impl BufRead) {
        for line in 1.. {
            let goes_on = match read_line(&mut lines) {
                Ok(Line::End) => return,
                Ok(Line::Whole(body)) => self.put(line, body),
                Ok(Line::TooLong) => {
                    self.fail(Unread::TooLong { line }) && skip_line(&mut lines).is_ok()
                }
                Err(error) => self.fail(Unread::Failed(cannot_read(path, &error))) & false,
            };
            if !goes_on {
                return;
            }
        }
    }
}

enum Line {
    /// There are no more.
    End,
    /// Without its end.
    Whole(Vec<u8>),
    /// Only its beginning was read.
    TooLong,
}

fn read_line(lines: &mut impl BufRead) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let count = lines.take(BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if count == 0 {
        return Ok(Line::End);
    } else if count > BYTES_MAX {
        return Ok(Line::TooLong);
    }
    Ok(Line::Whole(line))
}

fn skip_line(lines: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = lines.fill_buf()?;
        let (count, is_over) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        lines.consume(count);
        if is_over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_from_what_is_too_long() {
        let long = "x".repeat(BYTES_MAX);
        let text = format!("a\n\n{long}\n{long}y\nb\r\n{long}y");
        let mut lines = BufReader::new(text.as_bytes());
        let mut seen = Vec::new();
        loop {
            match read_line(&mut lines).expect("memory can be read") {
                Line::End => break,
                Line::Whole(line) => seen.push(Some((line.len(), line.first().copied()))),
                Line::TooLong => {
                    skip_line(&mut lines).expect("memory can be read");
                    seen.push(None);
                }
            }
        }
        let expected = [
            Some((1, Some(b'a'))),
            Some((0, None)),
            Some((BYTES_MAX, Some(b'x'))),
            None,
            Some((2, Some(b'b'))),
            None,
        ];
        assert_eq!(seen, expected);
    }
}
