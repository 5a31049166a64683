//! The query for the structure of a tenant's database, to compare it with the others'. It returns a
//! kind (`column`), a name (`USERS.EMAIL`) and a definition. Tenantry's own tables are left out.

/// Names that Oracle made up itself (`SYS_C0012345`) differ from tenant to tenant, so indexes go by
/// the columns that they hold.
pub(crate) const QUERY: &str = "SELECT CAST('table' AS VARCHAR(400)), CAST(c.table_name AS VARCHAR(400)), CAST('table' AS VARCHAR(400)) FROM user_tables c \
WHERE c.table_name NOT LIKE 'TENANTRY%' \
UNION ALL SELECT CAST('column' AS VARCHAR(400)), CAST(c.table_name || '.' || c.column_name AS VARCHAR(400)), CAST(c.data_type || ' ' || c.data_length \
|| ' ' || c.data_precision || ' ' || c.data_scale || CASE WHEN c.nullable = 'N' THEN ' not null' ELSE '' END AS VARCHAR(400)) \
FROM user_tab_columns c WHERE c.table_name NOT LIKE 'TENANTRY%' \
UNION ALL SELECT CAST('index' AS VARCHAR(400)), CAST(i.table_name || '.' || i.column_name || '.' || i.column_position AS VARCHAR(400)), \
CAST(x.uniqueness AS VARCHAR(400)) FROM user_ind_columns i JOIN user_indexes x ON x.index_name = i.index_name \
WHERE i.table_name NOT LIKE 'TENANTRY%' \
UNION ALL SELECT CAST('view' AS VARCHAR(400)), CAST(v.view_name AS VARCHAR(400)), CAST('view' AS VARCHAR(400)) FROM user_views v WHERE v.view_name NOT LIKE 'TENANTRY%' \
UNION ALL SELECT CAST('trigger' AS VARCHAR(400)), CAST(g.table_name || '.' || g.trigger_name AS VARCHAR(400)), \
CAST(g.trigger_type || ' ' || g.triggering_event || ' ' || g.status AS VARCHAR(400)) FROM user_triggers g";
