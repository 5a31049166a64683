//! Oracle: a real one if there is one, else the stand-in for its client library on a PostgreSQL.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, task::spawn_blocking};
use url::Url;

use crate::{
    ORACLE_SQL, ORACLE_URL, PostgresServer, TenantDb,
    tenant_db::{Superuser, password},
};

/// The server with the tests' Oracle tenants: a real Oracle if [`ORACLE_URL`] names one, else the
/// shared PostgreSQL behind the stand-in for Oracle's client library (`tests/oracle-client`
/// explains what that proves and what it cannot).
pub struct OracleServer(Kind);

enum Kind {
    StandIn {
        server: &'static PostgresServer,
        library: PathBuf,
    },
    Real(Real),
}

impl OracleServer {
    /// The server of this test process. Each test creates its own tenants in it.
    ///
    /// # Panics
    /// It cannot be used. If [`ORACLE_URL`] is set, it is a real Oracle and never the stand-in.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<OracleServer> = OnceCell::const_new();
        match SHARED.get_or_try_init(Self::find).await {
            Ok(server) => server,
            Err(error) => panic!("no Oracle: {error:#}"),
        }
    }

    async fn find() -> Result<Self> {
        let Some(url) = real_url() else {
            return Ok(Self(Kind::StandIn {
                server: PostgresServer::shared().await,
                library: stand_in()?,
            }));
        };
        let real = Real::from_url(&url)?;
        real.run(&["SELECT 1 FROM DUAL"]).await.with_context(|| {
            format!("the Oracle of `{ORACLE_URL}` can't be used, and the stand-in is not used while that is set")
        })?;
        Ok(Self(Kind::Real(real)))
    }

    /// The folder of the client library for the driver's configuration; `None` for the installed
    /// one.
    pub fn client_library(&self) -> Option<&Path> {
        match &self.0 {
            Kind::StandIn { library, .. } => Some(library),
            Kind::Real(_) => None,
        }
    }

    /// The host it listens on.
    pub fn host(&self) -> &str {
        match &self.0 {
            Kind::StandIn { server, .. } => server.host(),
            Kind::Real(real) => &real.superuser.host,
        }
    }

    /// Creates a user with its own schema (with the stand-in, its own database) and without access
    /// to other tenants'. On a real Oracle it stays when the tests have ended.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn create_tenant(&self, name: &str) -> Result<TenantDb> {
        let real = match &self.0 {
            Kind::StandIn { server, .. } => return server.create_tenant(name).await,
            Kind::Real(real) => real,
        };
        let TenantDb { user, .. } = TenantDb::named(name);
        let tenant = TenantDb {
            database: real.service.clone(),
            user,
            password: password(),
        };
        let create = format!(
            "CREATE USER {} IDENTIFIED BY \"{}\" QUOTA UNLIMITED ON USERS",
            tenant.user, tenant.password
        );
        let grant = format!("GRANT CONNECT, RESOURCE TO {}", tenant.user);
        real.run(&[&create, &grant]).await?;
        Ok(tenant)
    }

    /// A tenant's secret, in the form of the contract.
    pub fn secret(&self, tenant: &TenantDb) -> Value {
        let port = match &self.0 {
            Kind::StandIn { server, .. } => server.port(),
            Kind::Real(real) => real.superuser.port,
        };
        json!({
            "type": "oracle",
            "host": self.host(),
            "port": port,
            "database": tenant.database,
            "username": tenant.user,
            "password": tenant.password,
        })
    }

    /// How many sessions a tenant's user has.
    ///
    /// # Errors
    /// The server can't be asked.
    pub async fn sessions(&self, tenant: &TenantDb) -> Result<u64> {
        let user = &tenant.user;
        match &self.0 {
            Kind::StandIn { .. } => {
                self.count_activity(&format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"
                ))
                .await
            }
            Kind::Real(real) => {
                real.count(&format!(
                    "SELECT COUNT(*) FROM v$session WHERE username = UPPER('{user}')"
                ))
                .await
            }
        }
    }

    /// How many of them are in a transaction.
    ///
    /// # Errors
    /// The server can't be asked.
    pub async fn transactions(&self, tenant: &TenantDb) -> Result<u64> {
        let user = &tenant.user;
        match &self.0 {
            Kind::StandIn { .. } => {
                let in_transaction = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND xact_start IS NOT NULL"
                );
                self.count_activity(&in_transaction).await
            }
            Kind::Real(real) => {
                real.count(&format!(
                    "SELECT COUNT(*) FROM v$transaction JOIN v$session ON v$session.taddr = v$transaction.addr \
                     WHERE v$session.username = UPPER('{user}')"
                ))
                .await
            }
        }
    }

    /// Ends every session of a tenant's user, as an operator does.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn end_sessions(&self, tenant: &TenantDb) -> Result<()> {
        let user = &tenant.user;
        match &self.0 {
            Kind::StandIn { server, .. } => {
                let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'");
                server.psql("postgres", &end).await.map(drop)
            }
            Kind::Real(real) => {
                // ORA-00031: marked to be ended as soon as it can be.
                let end = format!(
                    "DECLARE marked EXCEPTION; PRAGMA EXCEPTION_INIT(marked, -31);
                     BEGIN
                       FOR one IN (SELECT sid, serial# AS serial FROM v$session WHERE username = UPPER('{user}')) LOOP
                         BEGIN
                           EXECUTE IMMEDIATE 'ALTER SYSTEM KILL SESSION ''' || one.sid || ',' || one.serial || ''' IMMEDIATE';
                         EXCEPTION WHEN marked THEN NULL;
                         END;
                       END LOOP;
                     END;"
                );
                real.run(&[&end]).await
            }
        }
    }

    async fn count_activity(&self, sql: &str) -> Result<u64> {
        let Kind::StandIn { server, .. } = &self.0 else {
            bail!("only PostgreSQL has these views");
        };
        let count = server.psql("postgres", sql).await?;
        count.trim().parse().with_context(|| format!("`{count}` is no number"))
    }
}

/// What a program that opens Oracle tenants needs in its environment: the stand-in by
/// `LD_LIBRARY_PATH` unless there is a real Oracle, and the file in which statements are recorded.
///
/// # Errors
/// The stand-in was not built.
pub(crate) fn environment() -> Result<Vec<(OsString, OsString)>> {
    if real_url().is_some() {
        return Ok(Vec::new());
    }
    let path = "LD_LIBRARY_PATH";
    let mut folders = vec![stand_in()?];
    folders.extend(std::env::split_paths(&std::env::var_os(path).unwrap_or_default()));
    let mut environment = vec![(path.into(), std::env::join_paths(folders)?)];
    environment.extend(std::env::var_os(ORACLE_SQL).map(|file| (ORACLE_SQL.into(), file)));
    Ok(environment)
}

fn real_url() -> Option<String> {
    std::env::var(ORACLE_URL).ok().filter(|url| !url.is_empty())
}

/// A folder in which the stand-in has the name of Oracle's client library. It is built under
/// another, for cargo puts the folder of what it builds into `LD_LIBRARY_PATH`, and `cargo run`
/// must not find it there.
fn stand_in() -> Result<PathBuf> {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    let program = std::env::current_exe().context("can't ask where this program is")?;
    let built = format!("{DLL_PREFIX}tenantry_oracle_client{DLL_SUFFIX}");
    let deps = program
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.to_owned(), folder.join("deps")])
        .find(|folder| folder.join(&built).exists())
        .ok_or_else(|| {
            anyhow!(
                "the stand-in for Oracle's client, {built}, is not beside {}",
                program.display()
            )
        })?;
    let folder = deps.join("oracle-client");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let link = folder.join(format!("{DLL_PREFIX}clntsh{DLL_SUFFIX}"));
    match std::os::unix::fs::symlink(Path::new("..").join(&built), &link) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(folder),
        Err(error) => Err(error).with_context(|| format!("can't make {}", link.display())),
    }
}

/// A real Oracle, with the login of a user that may create users.
struct Real {
    superuser: Superuser,
    service: String,
}

impl Real {
    fn from_url(url: &str) -> Result<Self> {
        let superuser = Superuser::from_url(ORACLE_URL, url)?;
        let service = Url::parse(url)
            .ok()
            .map(|url| url.path().trim_matches('/').to_owned())
            .filter(|service| !service.is_empty())
            .with_context(|| format!("`{ORACLE_URL}` names no service after the port, such as `/FREEPDB1`"))?;
        Ok(Self { superuser, service })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&oracle::Connection) -> oracle::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Superuser {
            host,
            port,
            user,
            password,
        } = &self.superuser;
        let address = format!("//{host}:{port}/{}", self.service);
        let (user, password) = (user.clone(), password.clone());
        let done =
            spawn_blocking(move || oracle::Connection::connect(user, password, address).and_then(|open| work(&open)));
        done.await
            .context("the call was cut off")?
            .with_context(|| format!("Oracle at {host}:{port}"))
    }

    async fn run(&self, statements: &[&str]) -> Result<()> {
        let statements: Vec<String> = statements.iter().map(|sql| (*sql).to_owned()).collect();
        self.with(move |open| {
            for sql in statements {
                let mut statement = open.statement(&sql).build()?;
                if statement.is_query() {
                    statement.query(&[])?;
                } else {
                    statement.execute(&[])?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn count(&self, sql: &str) -> Result<u64> {
        let sql = sql.to_owned();
        self.with(move |open| open.query_row_as::<u64>(&sql, &[])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_real_one_has_a_service_and_is_never_repeated() {
        let real = Real::from_url("oracle://system:hunter2@127.0.0.1:1521/FREEPDB1").unwrap();
        assert_eq!((real.superuser.port, real.service.as_str()), (1521, "FREEPDB1"));
        for wrong in [
            "oracle://system:hunter2@127.0.0.1:1521/",
            "oracle://system:hunter2@127.0.0.1/FREEPDB1",
            "hunter2",
        ] {
            let error = format!("{:#}", Real::from_url(wrong).err().unwrap());
            assert!(error.contains(ORACLE_URL) && !error.contains("hunter2"), "{error}");
        }
    }
}
