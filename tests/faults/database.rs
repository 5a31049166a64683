//! PostgreSQL or MariaDB: what a fault needs of either.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tenantry_test_support::{MariadbServer, PostgresServer, TenantDb};

use crate::world;

/// One database server.
#[derive(Clone, Copy)]
pub(crate) enum Database<'a> {
    Postgresql(&'a PostgresServer),
    Mariadb(&'a MariadbServer),
}

/// The most sessions at once, as the server counted them.
pub(crate) struct MostSessions {
    pub(crate) most: u64,
    /// How often it was counted.
    pub(crate) looks: u64,
    /// What MariaDB had at that time, and the most that a single look saw.
    pub(crate) detail: String,
}

impl Database<'static> {
    /// The PostgreSQL that all tests share.
    pub(crate) async fn shared_postgresql() -> Self {
        Self::Postgresql(PostgresServer::shared().await)
    }

    /// The MariaDB that all tests share.
    pub(crate) async fn shared_mariadb() -> Self {
        Self::Mariadb(MariadbServer::shared().await)
    }
}

impl Database<'_> {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgresql(_) => "postgresql",
            Self::Mariadb(_) => "mariadb",
        }
    }

    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Postgresql(server) => server.port(),
            Self::Mariadb(server) => server.port(),
        }
    }

    pub(crate) async fn create_tenant(self, name: &str) -> Result<TenantDb> {
        match self {
            Self::Postgresql(server) => server.create_tenant(name).await,
            Self::Mariadb(server) => server.create_tenant(name).await,
        }
    }

    pub(crate) fn secret(self, tenant: &TenantDb) -> Value {
        match self {
            Self::Postgresql(server) => server.secret(tenant),
            Self::Mariadb(server) => server.secret(tenant),
        }
    }

    /// Runs SQL in a tenant's database as the superuser and returns its rows.
    pub(crate) async fn sql(self, tenant: &TenantDb, sql: &str) -> Result<String> {
        match self {
            Self::Postgresql(server) => server.psql(&tenant.database, sql).await,
            Self::Mariadb(server) => server.sql(&tenant.database, sql).await,
        }
    }

    /// Runs SQL that concerns the server as a whole.
    async fn admin(self, sql: &str) -> Result<String> {
        match self {
            Self::Postgresql(server) => server.psql("postgres", sql).await,
            Self::Mariadb(server) => server.sql("mysql", sql).await,
        }
    }

    /// Limits how many sessions the tenant's user may have.
    pub(crate) async fn limit_sessions(self, tenant: &TenantDb, limit: usize) -> Result<()> {
        let user = &tenant.user;
        let sql = match self {
            Self::Postgresql(_) => format!("ALTER ROLE \"{user}\" CONNECTION LIMIT {limit}"),
            Self::Mariadb(_) => format!("ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS {limit}"),
        };
        self.admin(&sql).await.map(drop)
    }

    pub(crate) async fn set_password(self, tenant: &TenantDb, password: &str) -> Result<()> {
        let user = &tenant.user;
        let sql = match self {
            Self::Postgresql(_) => format!("ALTER ROLE \"{user}\" PASSWORD '{password}'"),
            Self::Mariadb(_) => format!("ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'"),
        };
        self.admin(&sql).await.map(drop)
    }

    /// Ends every session of the tenants' users, whatever it does.
    pub(crate) async fn end_sessions(self, tenants: &[&TenantDb]) -> Result<()> {
        let sql = match self {
            Self::Postgresql(_) => format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename IN ({})",
                users(tenants)
            ),
            Self::Mariadb(_) => tenants
                .iter()
                .map(|tenant| format!("KILL USER '{}'@'%';", tenant.user))
                .collect(),
        };
        self.admin(&sql).await.map(drop)
    }

    /// How many sessions the tenants' users have.
    pub(crate) async fn sessions(self, tenants: &[&TenantDb]) -> Result<u64> {
        let users = users(tenants);
        let sql = match self {
            Self::Postgresql(_) => format!("SELECT count(*) FROM pg_stat_activity WHERE usename IN ({users})"),
            Self::Mariadb(_) => {
                format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user IN ({users})")
            }
        };
        self.admin(&sql).await?.trim().parse().context("no number")
    }

    /// The most sessions that there are at once for `seconds`, counted every two milliseconds: on
    /// PostgreSQL those of the tenants' users, on MariaDB all but the superuser's, so that sessions
    /// that are still logging in count too. MariaDB must have no other clients.
    ///
    /// MariaDB forgets a session some moments after its socket is closed, so a session counts there
    /// if two looks in a row see it.
    pub(crate) async fn most_sessions(self, tenants: &[&TenantDb], seconds: u64) -> Result<MostSessions> {
        let server = match self {
            Self::Postgresql(server) => {
                let users: Vec<&str> = tenants.iter().map(|tenant| tenant.user.as_str()).collect();
                let (most, looks) = world::most_sessions(server, &users, seconds).await?;
                return Ok(MostSessions {
                    most,
                    looks,
                    detail: String::new(),
                });
            }
            Self::Mariadb(server) => server,
        };
        let sql = format!(
            "DELIMITER //
             BEGIN NOT ATOMIC
                 DECLARE n, seen, most, most_seen, looks INT DEFAULT 0;
                 DECLARE stop DATETIME(6) DEFAULT SYSDATE(6) + INTERVAL {seconds} SECOND;
                 DECLARE now_there, all_of_them, at_most TEXT DEFAULT '';
                 DECLARE before_it TEXT DEFAULT '';
                 SET SESSION group_concat_max_len = 100000;
                 WHILE SYSDATE(6) < stop DO
                     SELECT COUNT(*), COALESCE(SUM(FIND_IN_SET(id, before_it) > 0), 0), GROUP_CONCAT(id),
                             GROUP_CONCAT(CONCAT_WS(' ', id, user, command, time_ms, state, LEFT(info, 20)) SEPARATOR '; ')
                         INTO seen, n, now_there, all_of_them FROM information_schema.processlist
                         WHERE user NOT IN ('root', 'system user', 'event_scheduler');
                     IF n > most THEN
                         SET most = n, at_most = all_of_them;
                     END IF;
                     SET most_seen = GREATEST(most_seen, seen), looks = looks + 1, before_it = COALESCE(now_there, '');
                     DO SLEEP(0.002);
                 END WHILE;
                 SELECT CONCAT_WS(' ', most, looks, 'seen for a moment:', most_seen, at_most);
             END //"
        );
        let answer = server.sql("mysql", &sql).await?;
        let mut fields = answer.trim().splitn(3, ' ');
        let mut field = || fields.next().context("a field is missing");
        Ok(MostSessions {
            most: field()?.parse()?,
            looks: field()?.parse()?,
            detail: field()?.to_owned(),
        })
    }

    /// Makes every insertion of a user with a name that begins with `slow` take `seconds`. The
    /// table `users` must exist.
    pub(crate) async fn slow_down_insertions(self, tenant: &TenantDb, seconds: u64) -> Result<()> {
        let user = &tenant.user;
        // In a trigger MariaDB lists a session as its definer's.
        let sql = match self {
            Self::Postgresql(_) => format!(
                "CREATE SEQUENCE slow_insertions;
                 GRANT ALL ON SEQUENCE slow_insertions TO \"{user}\";
                 CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     PERFORM nextval('slow_insertions');
                     PERFORM pg_sleep({seconds});
                     RETURN NEW;
                 END $$;
                 CREATE TRIGGER be_slow BEFORE INSERT ON users
                     FOR EACH ROW WHEN (NEW.name LIKE 'slow%') EXECUTE FUNCTION be_slow();"
            ),
            Self::Mariadb(_) => format!(
                "DELIMITER //
                 CREATE DEFINER = '{user}'@'%' TRIGGER be_slow BEFORE INSERT ON users FOR EACH ROW
                 BEGIN
                     IF NEW.name LIKE 'slow%' THEN
                         DO SLEEP({seconds});
                     END IF;
                 END //"
            ),
        };
        self.sql(tenant, &sql).await.map(drop)
    }

    /// How many slow insertions began: on PostgreSQL by a sequence, which is not rolled back; on
    /// MariaDB by the number of sessions killed, which must have no other reason.
    pub(crate) async fn all_slow_insertions(self, tenants: &[&TenantDb]) -> Result<u64> {
        if let Self::Mariadb(server) = self {
            let kills = server.sql("mysql", "SHOW GLOBAL STATUS LIKE 'Com_kill'").await?;
            let (_, kills) = kills.trim().split_once('\t').context("not two fields")?;
            return Ok(kills.parse()?);
        }
        let mut all = 0;
        for tenant in tenants {
            let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM slow_insertions";
            all += self.sql(tenant, sql).await?.trim().parse::<u64>()?;
        }
        Ok(all)
    }

    /// How many slow insertions of the tenant's user are running.
    pub(crate) async fn slow_insertions(self, tenant: &TenantDb) -> Result<u64> {
        let user = &tenant.user;
        let sql = match self {
            Self::Postgresql(_) => {
                format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND wait_event = 'PgSleep'")
            }
            Self::Mariadb(_) => format!(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{user}' AND info LIKE 'DO SLEEP%'"
            ),
        };
        self.admin(&sql).await?.trim().parse().context("no number")
    }

    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Self::Postgresql(server) => server.stop().await,
            Self::Mariadb(server) => server.stop().await,
        }
    }

    pub(crate) async fn start_again(self) -> Result<()> {
        match self {
            Self::Postgresql(server) => server.start_again().await,
            Self::Mariadb(server) => server.start_again().await,
        }
    }

    /// The rows of a `SELECT` of two columns in a tenant's database.
    pub(crate) async fn pairs(self, tenant: &TenantDb, sql: &str) -> Result<Vec<(String, String)>> {
        let separator = match self {
            Self::Postgresql(_) => '|',
            Self::Mariadb(_) => '\t',
        };
        let rows = self.sql(tenant, sql).await?;
        let mut pairs = Vec::new();
        for row in rows.lines() {
            let fields: Vec<&str> = row.split(separator).collect();
            ensure!(fields.len() == 2, "a row of {} fields", fields.len());
            pairs.push((fields[0].to_owned(), fields[1].to_owned()));
        }
        Ok(pairs)
    }
}

fn users(tenants: &[&TenantDb]) -> String {
    tenants
        .iter()
        .map(|tenant| format!("'{}'", tenant.user))
        .collect::<Vec<_>>()
        .join(", ")
}
