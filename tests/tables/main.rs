//! Declared tables as clients use them: the same requests against every kind of database.

#![allow(clippy::unwrap_used, reason = "only `#[test]` functions are excepted by themselves")]

mod addresses;
mod bounds;
mod case;
mod catalogues;
mod collations;
mod counts;
mod edges;
mod encodings;
mod errors;
mod injections;
mod isolation;
mod large;
mod oddities;
mod pages;
mod reads;
mod reference;
mod refusals;
mod relations;
mod rights;
mod rules;
mod schemas;
mod shop;
mod stored;
mod untyped;
mod upserts;
mod versions;
mod writes;
