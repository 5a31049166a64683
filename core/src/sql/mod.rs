//! Facts that the text of a statement shows: how traces and logs describe it, whether it may be
//! repeated, and whether it leaves state on its session. Nothing here parses SQL; in doubt the
//! answer is the careful one.

mod describe;
mod effects;
mod pieces;
mod session_state;

pub(crate) use describe::{described, normalized, operation};
pub(crate) use effects::{is_read, may_commit};
pub(crate) use pieces::Dialect;
use pieces::{Piece, Pieces};
pub(crate) use session_state::leaves_session_state;

/// A piece of a statement. Literal texts and comments are left out.
#[derive(Clone, Copy)]
enum Token<'a> {
    Word(&'a str),
    /// A quoted name, a number or a parameter.
    Other,
    Symbol(char),
}

/// The tokens of a statement of any dialect.
fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let pieces = Pieces {
        rest: sql,
        dialect: Dialect::Unknown,
    };
    pieces.filter_map(|piece| match piece {
        Piece::Word(word) => Some(Token::Word(word)),
        Piece::Name(_) | Piece::Number | Piece::Parameter(_) => Some(Token::Other),
        Piece::Symbol(symbol) => Some(Token::Symbol(symbol)),
        Piece::Literal | Piece::Comment | Piece::Space => None,
    })
}
