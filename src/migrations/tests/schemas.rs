//! Tenants in schemas of one database of PostgreSQL.

use super::{stepwise::HEAD, *};

/// A tenant in the default schema of a new database, and others in the schemas that are named.
async fn in_one_database<const N: usize>(schemas: [&str; N]) -> (Target, [Target; N]) {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("schemas").await.unwrap();
    let target = async |schema: Option<&str>| {
        let mut secret = server.secret(&tenant);
        secret["schema"] = json!(schema);
        Target::new(json!({"type": "postgresql"}), secret).await
    };
    let first = target(None).await;
    let mut others = Vec::new();
    for schema in schemas {
        others.push(target(Some(schema)).await);
    }
    (first, others.try_into().unwrap_or_else(|_| unreachable!()))
}

#[tokio::test]
async fn the_table_of_another_tenant_s_schema_is_not_read() {
    let (public, [own, missing, both]) = in_one_database(["d, public", "e, public", "public, d"]).await;
    let (_folder, migrations) = folder("postgresql", &[("1_t.sql", "CREATE TABLE t (i int)")]).await;
    public.execute("CREATE SCHEMA d").await.unwrap();
    assert_eq!(public.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
    assert_eq!(both.apply(&migrations, false).await.unwrap(), report(&[], 1));

    let mut connection = own.driver.connect(&own.config).await.unwrap();
    let choice = Choice::default();
    let looked = migrations.look(&*own.driver, &mut *connection, choice).await;
    let elsewhere = "the table `tenantry_migrations` is in the schema `public`, and this tenant's belongs in `d`";
    assert!(looked.unwrap_err().to_string().starts_with(elsewhere));
    connection.close().await;
    let error = own.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(error.starts_with(elsewhere), "{error}");
    let error = missing.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(error.starts_with("the schema `e`, the first"), "{error}");

    let create = "CREATE TABLE d.tenantry_migrations (LIKE public.tenantry_migrations INCLUDING ALL)";
    own.execute(create).await.unwrap();
    assert_eq!(own.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
    let made = own.texts("SELECT nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = 't' ORDER BY 1");
    assert_eq!(made.await, ["d", "public"]);
}

#[tokio::test]
async fn a_missing_schema_of_the_role_s_own_search_path_is_passed_over() {
    let (public, [quoted, missing]) = in_one_database(["\"$user\", \"public\"", "app, public"]).await;
    let (_folder, migrations) = folder("postgresql", &[("1_t.sql", "CREATE TABLE t (i int)")]).await;
    public
        .execute("ALTER ROLE CURRENT_USER SET search_path = app, public")
        .await
        .unwrap();
    assert_eq!(public.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
    assert_eq!(quoted.apply(&migrations, false).await.unwrap(), report(&[], 1));
    let error = missing.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(error.starts_with("the schema `app`, the first"), "{error}");

    // Nor is there another one.
    public
        .execute("ALTER ROLE CURRENT_USER SET search_path = app")
        .await
        .unwrap();
    let error = public.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(error.starts_with("the schema `app`, the first"), "{error}");
    public
        .execute("ALTER ROLE CURRENT_USER SET search_path = app, public")
        .await
        .unwrap();

    // One that is there may be the tenant's own.
    let unusable = "CREATE SCHEMA app; REVOKE ALL ON SCHEMA app FROM CURRENT_USER";
    public.execute(unusable).await.unwrap();
    let error = public.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(error.starts_with("the schema `app`, the first"), "{error}");
}

#[tokio::test]
async fn the_failure_of_another_tenant_s_schema_is_not_this_tenant_s() {
    let (public, [own]) = in_one_database(["d, public"]).await;
    public.execute("CREATE SCHEMA d").await.unwrap();
    let (_folder, wrong) = folder("postgresql", &[("1_t.sql", "SELECT 1/0")]).await;
    let create = "CREATE TABLE d.tenantry_migrations (version bigint PRIMARY KEY, name text, checksum text, applied_at timestamptz)";
    own.execute(create).await.unwrap();
    public.apply(&wrong, false).await.unwrap_err();
    assert_eq!(public.look(&wrong, false).await.failed.as_deref(), Some("1_t"));
    assert_eq!(own.look(&wrong, false).await.failed, None);
}

#[tokio::test]
async fn another_tool_s_table_in_another_schema_says_nothing_of_this_tenant() {
    let (public, [own]) = in_one_database(["d, public"]).await;
    let (_folder, migrations) = folder("postgresql", &[("1_t.sql", "CREATE TABLE t (i int)")]).await;
    let dbmate = "CREATE TABLE schema_migrations (version text); INSERT INTO schema_migrations VALUES ('1'); \
                  CREATE TABLE t (i int); CREATE SCHEMA d";
    public.execute(dbmate).await.unwrap();
    let adopt = async |target: &Target, is_named: bool| {
        let mut connection = target.driver.connect(&target.config).await.unwrap();
        let adopting = migrations.adopt(target.database(), &mut *connection, Choice::default(), is_named);
        let adopted = adopting.await.map_err(|error| error.to_string());
        connection.close().await;
        adopted
    };
    let error = own.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(
        error.starts_with("the table `public.schema_migrations` says"),
        "{error}"
    );
    let error = adopt(&own, false).await.unwrap_err();
    assert!(
        error.contains("is in the schema `public`, and may be about another tenant"),
        "{error}"
    );
    let error = adopt(&own, true).await.unwrap_err();
    assert!(error.contains("the database has no table"), "{error}");
    own.execute("CREATE TABLE d.t (i int)").await.unwrap();
    assert_eq!(adopt(&own, true).await.unwrap(), ["1_t"]);
    let error = adopt(&public, false).await;
    assert_eq!(error.unwrap(), ["1_t"]);
}

#[tokio::test]
async fn an_invalid_index_of_another_name_or_schema_fails_no_statement() {
    let (public, [own]) = in_one_database(["d, public"]).await;
    let prepare = "CREATE SCHEMA d; CREATE TABLE public.t (v int); INSERT INTO public.t VALUES (1), (1); \
                   CREATE TABLE d.t (v int); INSERT INTO d.t VALUES (1), (1); CREATE TABLE d.e (v int)";
    public.execute(prepare).await.unwrap();
    for (table, index) in [("public.t", "by_v"), ("public.t", "by"), ("d.t", "by")] {
        let create = format!("CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} (v)");
        public.execute(&create).await.unwrap_err();
    }
    let sql = format!("{HEAD}CREATE INDEX CONCURRENTLY by_v ON t (v);\nREINDEX INDEX CONCURRENTLY by_v;\n");
    let file = ("1_i.sql", sql.as_str());
    let (_folder, right) = folder("postgresql", &[file]).await;
    assert_eq!(own.apply(&right, false).await.unwrap(), report(&["1_i"], 0));

    // Its own one is named, in the schema that the file looks in, also with the name in capitals.
    let wrong = format!("{HEAD}SET search_path = public;\nCREATE UNIQUE INDEX CONCURRENTLY BY_W ON t (v);");
    let (_folder, wrong) = folder("postgresql", &[file, ("2_w.sql", &wrong)]).await;
    let error = own.apply(&wrong, false).await.unwrap_err().to_string();
    assert!(
        error.ends_with("remove what it left: `DROP INDEX CONCURRENTLY public.by_w`"),
        "{error}"
    );
    let again =
        format!("{HEAD}SET search_path = public;\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS BY_W ON t (v);");
    let (_folder, again) = folder("postgresql", &[file, ("2_w.sql", &again)]).await;
    let error = own.apply(&again, false).await.unwrap_err().to_string();
    assert!(error.ends_with("`DROP INDEX CONCURRENTLY public.by_w`"), "{error}");
}

#[tokio::test]
async fn the_half_built_copy_of_an_index_is_named() {
    let target = Target::postgresql().await;
    // An index that holds everywhere but in the new copy: the function fails from now on.
    let prepare = "CREATE TABLE t (v int); INSERT INTO t VALUES (1); \
                   CREATE FUNCTION f(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN v; END $$; \
                   CREATE INDEX i ON t (f(v)); \
                   CREATE OR REPLACE FUNCTION f(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1/0; END $$";
    target.execute(prepare).await.unwrap();
    for kind in ["INDEX CONCURRENTLY i", "TABLE CONCURRENTLY t"] {
        let sql = format!("{HEAD}REINDEX {kind};");
        let (_folder, migrations) = folder("postgresql", &[("1_r.sql", &sql)]).await;
        let error = target.apply(&migrations, false).await.unwrap_err().to_string();
        assert!(error.contains("`DROP INDEX CONCURRENTLY public.i_ccnew`"), "{error}");
    }
}

/// A statement that runs in no transaction has none of its settings behind a pooler.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_behind_a_pooler_reaches_no_other_schema() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("pooled-schema").await.unwrap();
    let create = "CREATE SCHEMA d; CREATE TABLE d.t (i int); CREATE TABLE public.t (i int)";
    let direct = Target::new(json!({"type": "postgresql"}), server.secret(&tenant)).await;
    direct.execute(create).await.unwrap();
    let sql = format!("{HEAD}CREATE INDEX CONCURRENTLY i ON t (i);");
    let (_folder, migrations) = folder("postgresql", &[("1_i.sql", &sql)]).await;
    let apply = async || {
        let pgbouncer = PgBouncer::start(server, "default_pool_size = 2").await.unwrap();
        let mut secret = pgbouncer.secret(&tenant);
        secret["schema"] = json!("d");
        let target = Target::new(json!({"type": "postgresql"}), secret).await;
        target.apply(&migrations, false).await
    };
    let error = apply().await.unwrap_err();
    let source = std::error::Error::source(&error).and_then(std::error::Error::source);
    let source = source.map(ToString::to_string).unwrap_or_default();
    assert!(
        source.contains("`schema` is not set behind a pooler"),
        "{error}: {source}"
    );
    let indexes = "SELECT n.nspname::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid \
                   JOIN pg_namespace n ON n.oid = relnamespace WHERE c.relname = 'i'";
    assert!(direct.texts(indexes).await.is_empty());

    let path = format!("ALTER ROLE \"{}\" SET search_path = d", tenant.user);
    server.psql("postgres", &path).await.unwrap();
    assert_eq!(apply().await.unwrap(), report(&["1_i"], 0));
    assert_eq!(direct.texts(indexes).await, ["d"]);
}
