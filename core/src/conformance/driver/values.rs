//! Values are read back as they were written.

use sea_orm::{
    ActiveValue::Set,
    EntityTrait, FromQueryResult, QueryFilter, QueryTrait,
    prelude::{Date, DateTimeUtc, Decimal, Uuid},
};
use serde_json::json;

use super::{Session, Suite, kind, tables};
use crate::DatabaseErrorKind;

/// An entity with every type that the suite promises.
#[allow(missing_docs, unreachable_pub)]
mod types {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "conformance_types")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub small: Option<i16>,
        pub int: Option<i32>,
        pub big: Option<i64>,
        pub flag: Option<bool>,
        pub float: Option<f32>,
        pub double: Option<f64>,
        pub text: Option<String>,
        pub bytes: Option<Vec<u8>>,
        pub at: Option<DateTimeUtc>,
        pub day: Option<Date>,
        pub uid: Option<Uuid>,
        pub amount: Option<Decimal>,
        pub doc: Option<Json>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn empty(id: i64) -> types::Model {
    types::Model {
        id,
        small: None,
        int: None,
        big: None,
        flag: None,
        float: None,
        double: None,
        text: None,
        bytes: None,
        at: None,
        day: None,
        uid: None,
        amount: None,
        doc: None,
    }
}

/// Writes a row as SeaORM would and reads it back by its own filter, twice: the second time from
/// the statement cache.
async fn goes_round(session: &mut Session, row: types::Model) {
    let id = row.id;
    let active = types::ActiveModel {
        id: Set(row.id),
        small: Set(row.small),
        int: Set(row.int),
        big: Set(row.big),
        flag: Set(row.flag),
        float: Set(row.float),
        double: Set(row.double),
        text: Set(row.text.clone()),
        bytes: Set(row.bytes.clone()),
        at: Set(row.at),
        day: Set(row.day),
        uid: Set(row.uid),
        amount: Set(row.amount),
        doc: Set(row.doc.clone()),
    };
    let insert = types::Entity::insert(active).into_query();
    let inserted = session.execute(&insert).await.unwrap_or_else(told);
    assert_eq!(inserted, 1);
    let select = types::Entity::find()
        .filter(sea_orm::ColumnTrait::eq(&types::Column::Id, id))
        .into_query();
    for _ in 0..2 {
        let rows = session.query(&select).await.unwrap_or_else(told);
        let read = types::Model::from_query_result(&rows[0], "").expect("the row can be read");
        assert_eq!(read, row);
    }
}

/// A test may print what the database says; a server may not.
fn told<T>(error: crate::DatabaseError) -> T {
    panic!(
        "{error}: {:?}",
        std::error::Error::source(&error).map(ToString::to_string)
    );
}

fn at(text: &str) -> DateTimeUtc {
    text.parse().expect("a time")
}

pub(super) async fn every_type_keeps_its_limits(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    // SeaORM reads a decimal of SQLite's as a double, which holds 15 digits.
    let amount = |text: &str, double: &str| -> Decimal {
        let text = if suite.dialect() == "sqlite" { double } else { text };
        text.parse().expect("a decimal")
    };
    let lowest = types::Model {
        small: Some(i16::MIN),
        int: Some(i32::MIN),
        big: Some(i64::MIN),
        flag: Some(false),
        float: Some(f32::MIN),
        double: Some(f64::MIN),
        text: Some(String::new()),
        bytes: Some(Vec::new()),
        at: Some(at("1000-01-01T00:00:00Z")),
        day: Some("1000-01-01".parse::<Date>().expect("a day")),
        uid: Some(Uuid::nil()),
        amount: Some(amount("-999999999999999999.9999999999", "-99999999999.9999")),
        doc: Some(json!({})),
        ..empty(1)
    };
    goes_round(&mut session, lowest).await;
    let highest = types::Model {
        small: Some(i16::MAX),
        int: Some(i32::MAX),
        big: Some(i64::MAX),
        flag: Some(true),
        float: Some(f32::MAX),
        double: Some(f64::MAX),
        text: Some("~".repeat(70_000)),
        bytes: Some((0..=255).cycle().take(70_000).collect()),
        at: Some(at("9999-12-31T23:59:59.999999Z")),
        day: Some("9999-12-31".parse::<Date>().expect("a day")),
        uid: Some(Uuid::max()),
        amount: Some(amount("999999999999999999.9999999999", "99999999999.9999")),
        doc: Some(json!({"a": [i64::MAX, -0.5, null, true, "ü🦀", {"b": {}}]})),
        ..empty(2)
    };
    goes_round(&mut session, highest).await;
    let small = types::Model {
        float: Some(f32::MIN_POSITIVE),
        double: Some(f64::MIN_POSITIVE),
        at: Some(at("1969-12-31T23:59:59.000001Z")),
        amount: Some(amount("0.0000000001", "0.0000000001")),
        doc: Some(json!([])),
        ..empty(3)
    };
    goes_round(&mut session, small).await;
    session.close().await;
}

pub(super) async fn every_type_can_be_null(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    goes_round(&mut session, empty(10)).await;
    session.close().await;
}

pub(super) async fn texts_of_every_kind_come_back_as_they_went(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let texts = [
        "",
        " ",
        "trailing  ",
        "ünïcödé",
        "日本語",
        "👩‍👩‍👧‍👦🦀",
        "'; DROP TABLE conformance_types; --",
        "back\\slash \"quotes\" `ticks` $1 ? :x %s {}",
        "line\nfeed\r\n\ttab",
    ];
    for (id, text) in (20..).zip(texts) {
        goes_round(
            &mut session,
            types::Model {
                text: Some(text.to_owned()),
                ..empty(id)
            },
        )
        .await;
    }
    session.close().await;
}

pub(super) async fn a_text_of_one_megabyte_comes_back_as_it_went(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let text = "0123456789abcdeé".repeat(1 << 16);
    assert!(text.len() >= 1 << 20);
    goes_round(
        &mut session,
        types::Model {
            text: Some(text),
            ..empty(40)
        },
    )
    .await;
    session.close().await;
}

pub(super) async fn a_value_that_is_too_long_is_not_cut_short(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    let outcome = session
        .execute(&tables::parent(100, Some("a name of more than twenty characters")))
        .await;
    assert_eq!(kind(outcome), DatabaseErrorKind::ConstraintViolation);
    session
        .execute(&tables::parent(101, Some("twenty ünï🦀 exactly")))
        .await
        .unwrap_or_else(told);
    session.close().await;
}
