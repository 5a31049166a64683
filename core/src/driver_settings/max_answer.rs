//! How large the answer of a statement may be. An answer that is read whole is in memory, and each
//! tenant's database decides how large it is.

use crate::{BuildError, ByteSize, DatabaseError, DatabaseErrorKind};

/// The approximate overhead in memory of a row, and of a value.
const ROW: usize = 64;
const VALUE: usize = 32;
/// From this length on, a row has memory of its own, rounded up to the next power of two: sqlx
/// reads into a buffer that doubles as it grows.
const DOUBLING: usize = 16 * 1024;

/// The most bytes that an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct MaxAnswer(usize);

impl MaxAnswer {
    /// The default of the driver's `max_answer`.
    pub const DEFAULT: ByteSize = ByteSize::mebibytes(32);

    /// Reads a driver's `max_answer`.
    ///
    /// # Errors
    /// It is 0.
    pub fn new(configured: ByteSize) -> Result<Self, BuildError> {
        match usize::try_from(configured.0).unwrap_or(usize::MAX) {
            0 => Err(BuildError::key("max_answer", "is 0")),
            bytes => Ok(Self(bytes)),
        }
    }

    /// The room for one answer.
    pub fn room(self) -> Room {
        Room(self.0)
    }
}

/// The memory that is left for the rest of an answer.
#[derive(Debug)]
pub struct Room(usize);

impl Room {
    /// Takes room for a row with values of these lengths, in bytes.
    ///
    /// # Errors
    /// `AnswerTooLarge`, if less is left.
    pub fn take_row(&mut self, lengths: impl Iterator<Item = usize>) -> Result<(), DatabaseError> {
        let length = lengths.map(|length| length + VALUE).sum::<usize>() + ROW;
        self.take(match length {
            ..DOUBLING => length,
            _ => length.checked_next_power_of_two().unwrap_or(length),
        })
    }

    /// Takes room for so many bytes.
    ///
    /// # Errors
    /// `AnswerTooLarge`, if fewer are left.
    pub fn take(&mut self, bytes: usize) -> Result<(), DatabaseError> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(DatabaseError::new(DatabaseErrorKind::AnswerTooLarge)
                .with_source("the answer is larger than the driver's `max_answer`")),
        }
    }
}
