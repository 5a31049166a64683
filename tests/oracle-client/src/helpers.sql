-- What Oracle has and PostgreSQL spells otherwise, for the statements that the stand-in runs.
CREATE SCHEMA oracle_stand_in;

CREATE FUNCTION oracle_stand_in.decode(anycompatible, anycompatible, int, int) RETURNS int LANGUAGE sql IMMUTABLE
    AS 'SELECT CASE WHEN $1 IS NOT DISTINCT FROM $2 THEN $3 ELSE $4 END';
CREATE FUNCTION oracle_stand_in.instr(text, text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT strpos($1, $2)';
CREATE FUNCTION oracle_stand_in.to_char(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION oracle_stand_in.to_char(numeric) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::text';
CREATE FUNCTION oracle_stand_in.trunc(timestamp) RETURNS timestamp(0) LANGUAGE sql IMMUTABLE AS 'SELECT date_trunc(''day'', $1)';
CREATE FUNCTION oracle_stand_in.trunc(date) RETURNS date LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION oracle_stand_in.sys_guid() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()';
CREATE FUNCTION oracle_stand_in.bitand(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 & $2';

CREATE FUNCTION oracle_stand_in.is_json(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN value::json IS NOT NULL OR value IS NULL;
EXCEPTION WHEN others THEN
    RETURN false;
END $$;

CREATE VIEW oracle_stand_in.user_json_columns AS
    SELECT upper(class.relname) AS table_name, upper(attribute.attname) AS column_name
      FROM pg_constraint AS rule
      JOIN pg_class AS class ON class.oid = rule.conrelid
      JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum = rule.conkey[1]
     WHERE rule.contype = 'c' AND pg_get_constraintdef(rule.oid) LIKE '%is_json(%';

-- The dictionary, as much of it as the driver reads.
CREATE VIEW oracle_stand_in.user_tables AS
    SELECT upper(relname::text) AS table_name
      FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace;
CREATE VIEW oracle_stand_in.user_tab_columns AS
    SELECT upper(relname::text) AS table_name, upper(attname::text) AS column_name,
           upper(format_type(atttypid, atttypmod)) AS data_type, attlen::int AS data_length, 0 AS data_precision, 0 AS data_scale,
           CASE WHEN attnotnull THEN 'N' ELSE 'Y' END AS nullable
      FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped;
CREATE VIEW oracle_stand_in.user_indexes AS
    SELECT upper(class.relname::text) AS index_name, CASE WHEN indisunique THEN 'UNIQUE' ELSE 'NONUNIQUE' END AS uniqueness
      FROM pg_index JOIN pg_class AS class ON class.oid = indexrelid WHERE class.relnamespace = 'public'::regnamespace;
CREATE VIEW oracle_stand_in.user_ind_columns AS
    SELECT upper(index.relname::text) AS index_name, upper(of_table.relname::text) AS table_name,
           upper(attname::text) AS column_name, attribute.attnum::int AS column_position
      FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid JOIN pg_class AS of_table ON of_table.oid = indrelid
      JOIN pg_attribute AS attribute ON attribute.attrelid = indexrelid WHERE index.relnamespace = 'public'::regnamespace;
CREATE VIEW oracle_stand_in.user_views AS
    SELECT upper(relname::text) AS view_name
      FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace;
-- A tenant sees no other schema than its own.
CREATE VIEW oracle_stand_in.all_tables AS SELECT 'PUBLIC' AS owner, t.* FROM oracle_stand_in.user_tables AS t;
CREATE VIEW oracle_stand_in.all_tab_columns AS SELECT 'PUBLIC' AS owner, t.* FROM oracle_stand_in.user_tab_columns AS t;
CREATE VIEW oracle_stand_in.all_indexes AS SELECT 'PUBLIC' AS owner, t.* FROM oracle_stand_in.user_indexes AS t;
CREATE VIEW oracle_stand_in.all_ind_columns AS
    SELECT 'PUBLIC' AS index_owner, 'PUBLIC' AS table_owner, t.* FROM oracle_stand_in.user_ind_columns AS t;
CREATE FUNCTION oracle_stand_in.sys_context(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'PUBLIC'$$;
-- Those of this stand-in are none of the user's.
CREATE VIEW oracle_stand_in.user_triggers AS
    SELECT '' AS table_name, '' AS trigger_name, '' AS trigger_type, '' AS triggering_event, '' AS status WHERE false;

-- An empty text in a VARCHAR2 is NULL, also where it comes out of an empty CLOB.
CREATE FUNCTION oracle_stand_in.empty_is_null() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_populate_record(NEW, (
        SELECT jsonb_object_agg(name, NULL) FROM unnest(TG_ARGV) AS name WHERE to_jsonb(NEW) ->> name = ''));
END $$;

CREATE FUNCTION oracle_stand_in.watch() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT attrelid::regclass AS name, string_agg(format('NEW.%I = ''''', attname), ' OR ') AS condition,
               string_agg(quote_literal(attname), ', ') AS columns
          FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND atttypid = 'varchar'::regtype AND attnum > 0
           AND attgenerated = '' AND NOT attisdropped
           AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = attrelid AND tgname = 'empty_is_null')
         GROUP BY attrelid
    LOOP
        EXECUTE format('CREATE TRIGGER empty_is_null BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (%s)
                        EXECUTE FUNCTION oracle_stand_in.empty_is_null(%s)', found.name, found.condition, found.columns);
    END LOOP;
END $$;

CREATE SCHEMA IF NOT EXISTS utl_raw;
CREATE FUNCTION utl_raw.cast_to_raw(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS 'SELECT convert_to($1, ''UTF8'')';

CREATE SCHEMA IF NOT EXISTS dbms_session;
CREATE FUNCTION dbms_session.unique_session_id() RETURNS text LANGUAGE sql STABLE
    AS 'SELECT pg_backend_pid() || ''-'' || extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()';
CREATE FUNCTION dbms_session.is_session_alive(text) RETURNS boolean LANGUAGE sql STABLE
    AS 'SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid || ''-'' || extract(epoch FROM backend_start) = $1)';

CREATE TABLE oracle_stand_in.complete ();
