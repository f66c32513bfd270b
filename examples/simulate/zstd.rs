//! Reads a zstd file frame after frame, and knows how far it has come when something is wrong.
//!
//! [`ruzstd`] decodes one frame; a file may have several, some of them to be skipped, and each may carry a checksum,
//! which the decoder computes but leaves to the caller to compare.

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::error::Error;
use std::io::{self, BufRead, Read};

/// The decompressed content of `source`.
pub(crate) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BetweenFrames,
    InFrame,
}

impl<R: BufRead> Zstd<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), state: State::BetweenFrames }
    }

    fn start_frame(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.state = State::InFrame,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                self.skip(u64::from(length))?;
            }
            Err(error) => return Err(broken(&error)),
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
        if skipped < length {
            Err(io::Error::other("broken zstd: the file ends in a skippable frame"))
        } else {
            Ok(())
        }
    }

    fn read_frame(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
            let missing = buffer.len() - self.decoder.can_collect();
            let decoded =
                self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(missing));
            decoded.map_err(|error| broken(&error))?;
        }
        self.decoder.read(buffer)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.state = State::BetweenFrames;
        match self.decoder.get_checksum_from_data() {
            Some(told) if self.decoder.get_calculated_checksum() != Some(told) => {
                Err(io::Error::other("broken zstd: the frame that ends here does not match its checksum"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::BetweenFrames if self.source.fill_buf()?.is_empty() => return Ok(0),
                State::BetweenFrames => self.start_frame()?,
                State::InFrame => match self.read_frame(buffer)? {
                    0 => self.end_frame()?,
                    read => return Ok(read),
                },
            }
        }
    }
}

/// What is wrong, in a sentence: the decoder's own ones about a block print its insides.
fn broken(error: &FrameDecoderError) -> io::Error {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    io::Error::other(match error {
        _ if cause.downcast_ref().is_some_and(is_end) => {
            "broken zstd: the file ends within a frame".to_owned()
        }
        // A block is read whole before it is decoded.
        FrameDecoderError::FailedToReadBlockBody(_) => {
            "broken zstd: the block that ends here does not decode".to_owned()
        }
        _ => format!("broken zstd: {cause}"),
    })
}
