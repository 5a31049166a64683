//! Entities with SeaORM's defaults: generated `i32` keys, texts without a length, times with their
//! offset.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, DbBackend, DbErr, EntityTrait, ExprTrait, FromQueryResult, IntoActiveModel, QueryFilter, QuerySelect,
    TransactionTrait, TryInsertResult,
    entity::prelude::DateTimeWithTimeZone,
    sea_query::{Expr, OnConflict},
};
use serde_json::json;
use tenantry_core::engine::TenantDatabase;

use super::on_each;

on_each!(
    an_entity_comes_back_as_it_was_written,
    a_calculated_number_is_read,
    a_generated_key_conflicts_with_none,
    every_kind_of_value_comes_back,
    a_row_that_is_taken_is_left_out
);

#[allow(unreachable_pub, reason = "SeaORM's macros write it")]
mod note {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "notes")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub title: String,
        pub stars: i32,
        pub written_at: DateTimeWithTimeZone,
        pub read_at: Option<DateTimeWithTimeZone>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn create(database: &TenantDatabase) {
    let tables = database.get_schema_builder().register(note::Entity);
    tables.apply(database).await.unwrap();
}

fn at(text: &str) -> DateTimeWithTimeZone {
    text.parse().unwrap()
}

fn note(title: &str, stars: i32) -> note::ActiveModel {
    note::ActiveModel {
        title: Set(title.to_owned()),
        stars: Set(stars),
        written_at: Set(at("2026-01-02T03:04:05+00:00")),
        ..Default::default()
    }
}

async fn an_entity_comes_back_as_it_was_written(database: TenantDatabase) {
    create(&database).await;
    let mut written = note("first", 4);
    written.read_at = Set(Some(at("2026-01-02T05:00:00+00:00")));
    let inserted = written.insert(&database).await.unwrap();
    assert_eq!((inserted.id, inserted.stars), (1, 4));
    assert_eq!(inserted.written_at, at("2026-01-02T03:04:05+00:00"));
    assert_eq!(inserted.read_at, Some(at("2026-01-02T05:00:00+00:00")));
    let found = note::Entity::find_by_id(1).one(&database).await.unwrap().unwrap();
    assert_eq!(found, inserted);
    let changed = note::ActiveModel {
        title: Set("second".to_owned()),
        ..found.into()
    };
    let changed = changed.update(&database).await.unwrap();
    assert_eq!(
        (changed.title.as_str(), changed.written_at),
        ("second", inserted.written_at)
    );
}

#[derive(Debug, FromQueryResult)]
struct Calculated {
    more: Option<i32>,
    both: Option<i32>,
    one: Option<i32>,
    negative: Option<i32>,
}

async fn a_calculated_number_is_read(database: TenantDatabase) {
    create(&database).await;
    note("first", 4).insert(&database).await.unwrap();
    let stars = || Expr::col(note::Column::Stars);
    let calculated = note::Entity::find()
        .select_only()
        .column_as(stars().add(3), "more")
        .column_as(stars().mul(Expr::col(note::Column::Id)).sub(2), "both")
        .column_as(Expr::cust("1 + 1"), "one")
        .column_as(Expr::cust("-5"), "negative")
        .filter(note::Column::Title.eq("first"))
        .into_model::<Calculated>()
        .one(&database)
        .await
        .unwrap()
        .unwrap();
    if database.get_database_backend() == sea_orm::DbBackend::MySql {
        // MariaDB calculates in 64 bits, and sqlx reads no 32 of them.
        assert!(calculated.one.is_none() || calculated.one == Some(2));
        return;
    }
    assert_eq!((calculated.more, calculated.both), (Some(7), Some(2)));
    assert_eq!((calculated.one, calculated.negative), (Some(2), Some(-5)));
}

/// What SeaORM calls when it saves the rows between two entities.
async fn a_generated_key_conflicts_with_none(database: TenantDatabase) {
    create(&database).await;
    let insert = note::Entity::insert(note("first", 1)).on_conflict_do_nothing();
    let TryInsertResult::Inserted(inserted) = insert.exec(&database).await.unwrap() else {
        panic!("a generated key was taken")
    };
    assert_eq!(inserted.last_insert_id, 1);
    let many = [note("second", 2), note("third", 3)];
    note::Entity::insert_many(many)
        .on_conflict_do_nothing()
        .exec_without_returning(&database)
        .await
        .unwrap();
    let found = note::Entity::find().all(&database).await.unwrap();
    let mut stars: Vec<i32> = found.iter().map(|note| note.stars).collect();
    stars.sort_unstable();
    assert_eq!(stars, [1, 2, 3]);
}

#[allow(unreachable_pub, reason = "SeaORM's macros write it")]
mod parcel {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "parcels")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub code: String,
        #[sea_orm(unique)]
        pub label: String,
        pub content: Json,
        #[sea_orm(column_type = "Decimal(Some((16, 4)))")]
        pub price: Decimal,
        #[sea_orm(column_type = "Double")]
        pub weight: f64,
        pub sent_at: DateTimeUtc,
        pub due_at: DateTimeLocal,
        pub lost_at: Option<DateTimeLocal>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn parcel(code: &str) -> parcel::Model {
    let time = "2026-01-02T03:04:05Z";
    parcel::Model {
        code: code.to_owned(),
        label: format!("label of {code}"),
        content: json!({"number": 1, "list": [1, null]}),
        price: 10.into(),
        weight: 4.1,
        sent_at: time.parse().unwrap(),
        due_at: time.parse().unwrap(),
        lost_at: None,
    }
}

async fn create_parcels(database: &TenantDatabase) {
    let tables = database.get_schema_builder().register(parcel::Entity);
    tables.apply(database).await.unwrap();
}

async fn every_kind_of_value_comes_back(database: TenantDatabase) {
    create_parcels(&database).await;
    for (code, content) in [
        ("object", json!({"b": [1, null], "a": "ü"})),
        ("text", json!("HI")),
        ("number", json!(7)),
        ("null", json!(null)),
    ] {
        let mut written = parcel(code);
        written.content = content;
        written.lost_at = Some(written.due_at);
        let inserted = written.clone().into_active_model().insert(&database).await.unwrap();
        assert_eq!(inserted, written);
        let found = parcel::Entity::find_by_id(code).one(&database).await.unwrap();
        assert_eq!(found, Some(written));
    }
}

/// Whether the key is taken or another unique value.
async fn a_row_that_is_taken_is_left_out(database: TenantDatabase) {
    if database.get_database_backend() == DbBackend::MySql {
        // SeaORM writes nothing for it there.
        return;
    }
    create_parcels(&database).await;
    let transaction = database.begin().await.unwrap();
    let insert = |parcels: Vec<parcel::Model>| {
        let rows = parcels.into_iter().map(IntoActiveModel::into_active_model);
        parcel::Entity::insert_many(rows).on_conflict(OnConflict::new().do_nothing().to_owned())
    };
    insert(vec![parcel("one")]).exec(&transaction).await.unwrap();
    let mut same_label = parcel("two");
    same_label.label = parcel("one").label;
    for taken in [parcel("one"), same_label.clone()] {
        let refused = insert(vec![taken]).exec(&transaction).await;
        assert!(matches!(refused, Err(DbErr::RecordNotInserted)), "{refused:?}");
    }
    let several = vec![parcel("one"), parcel("three"), same_label];
    insert(several).exec_without_returning(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let found = parcel::Entity::find().all(&database).await.unwrap();
    let mut codes: Vec<&str> = found.iter().map(|parcel| parcel.code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["one", "three"]);
}
