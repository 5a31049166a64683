//! Starts the servers of `docker-compose.yml`, but for Oracle, and writes the tenants' secrets. Then
//! it runs a command beside them and ends with its exit code; without a command it waits for an
//! interrupt. `./scripts/dev-up` runs it, and sets what it reads from the environment.

use std::{
    env,
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail};
use tenantry_test_support::{MOTO_PROGRAM, MariadbServer, MotoServer, OpenBaoServer, PostgresServer, free_port};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

/// How often it is looked whether the servers still listen.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a command may take to end once it was asked to.
const END_WITHIN: Duration = Duration::from_secs(10);

/// The exit codes of a program that these signals end.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// What the environment gives a command, and `seed.py`.
type Variables = Vec<(&'static str, String)>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<u8> {
    let mut signals = Signals::watch()?;
    let servers = tokio::select! {
        servers = Servers::start() => servers?,
        code = signals.any() => return Ok(code),
    };
    let mut arguments = env::args_os().skip(1);
    let ended = if let Some(program) = arguments.next() {
        servers.run(&program, arguments, &mut signals).await
    } else {
        say("everything is there; `make run` in another terminal; Ctrl-C ends it");
        tokio::select! {
            error = servers.lost() => Err(error),
            code = signals.any() => Ok(code),
        }
    };
    servers.stop().await;
    ended
}

/// The signals that end this program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn watch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them, and gives the exit code.
    async fn any(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
            _ = self.hang_up.recv() => TERMINATED,
        }
    }

    /// Waits for those that a terminal does not send to a command as well.
    async fn terminated(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATED,
            _ = self.hang_up.recv() => TERMINATED,
        }
    }
}

/// The servers that run.
struct Servers {
    ports: Ports,
    variables: Variables,
    moto: MotoServer,
    postgres: [PostgresServer; 3],
    mariadb: MariadbServer,
    openbao: Option<OpenBaoServer>,
}

impl Servers {
    async fn start() -> Result<Self> {
        let ports = Ports::choose().await?;
        let (moto, default, tenant1, tenant2, tenant4) = tokio::try_join!(
            MotoServer::start_on(ports.moto),
            start_postgres("default", ports.default),
            start_postgres("tenant1", ports.tenant1),
            start_postgres("tenant2", ports.tenant2),
            start_mariadb("tenant4", ports.tenant4),
        )?;
        let mut variables = ports.variables();
        variables.push(("AWS_ENDPOINT_URL", moto.endpoint_url()));
        variables.extend(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, "test".to_owned())));
        seed(&variables).await?;
        say(&format!("Secrets Manager: {}", moto.endpoint_url()));
        let openbao = match is_set("DEV_UP_VAULT") {
            true => Some(start_openbao(ports.openbao, &mut variables).await?),
            false => None,
        };
        Ok(Self {
            ports,
            variables,
            moto,
            postgres: [default, tenant1, tenant2],
            mariadb: tenant4,
            openbao,
        })
    }

    /// Runs a command to its end, and gives its exit code.
    async fn run(
        &self,
        program: &OsString,
        arguments: impl Iterator<Item = OsString>,
        signals: &mut Signals,
    ) -> Result<u8> {
        let mut command = Command::new(program)
            .args(arguments)
            .envs(self.variables.iter().cloned())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't run `{}`", program.to_string_lossy()))?;
        // An interrupt at the terminal reaches the command too. Its end is waited for.
        let status = tokio::select! {
            status = command.wait() => status?,
            code = signals.terminated() => {
                if let Some(process) = command.id() {
                    Command::new("kill").arg(process.to_string()).status().await?;
                }
                // It is killed if it does not end by itself.
                let _ = timeout(END_WITHIN, command.wait()).await;
                return Ok(code);
            }
        };
        // As a shell says it if a signal ended the command.
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }

    /// Waits for the end of all, so that their ports are free again. One that has ended is no error.
    async fn stop(&self) {
        let [default, tenant1, tenant2] = &self.postgres;
        let openbao = async {
            match &self.openbao {
                Some(openbao) => openbao.stop().await,
                None => Ok(()),
            }
        };
        let _ = tokio::join!(
            self.moto.stop(),
            default.stop(),
            tenant1.stop(),
            tenant2.stop(),
            self.mariadb.stop(),
            openbao
        );
    }

    /// Waits until one of them does not listen any more.
    async fn lost(&self) -> Error {
        loop {
            sleep(LOOK_EVERY).await;
            for port in self.ports.listened() {
                if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    return anyhow!("the server on port {port} ended by itself");
                }
            }
        }
    }
}

/// The port of each server.
struct Ports {
    moto: u16,
    openbao: u16,
    default: u16,
    tenant1: u16,
    tenant2: u16,
    tenant4: u16,
}

impl Ports {
    /// Those of the environment, or free ones with `DEV_UP_FREE_PORTS`.
    async fn choose() -> Result<Self> {
        let free = is_set("DEV_UP_FREE_PORTS");
        let port = |variable| match free {
            true => free_port(),
            false => required(variable)?
                .parse()
                .with_context(|| format!("{variable} is not a port")),
        };
        let ports = Self {
            moto: port("MOTO_PORT")?,
            openbao: port("OPENBAO_PORT")?,
            default: port("POSTGRES_DEFAULT_PORT")?,
            tenant1: port("POSTGRES_TENANT1_PORT")?,
            tenant2: port("POSTGRES_TENANT2_PORT")?,
            tenant4: port("MARIADB_TENANT4_PORT")?,
        };
        for port in ports.listened() {
            if TcpListener::bind(("127.0.0.1", port)).await.is_err() {
                bail!("port {port} is taken (.env.example lists the variables that change it)");
            }
        }
        Ok(ports)
    }

    /// Those of the servers that always run.
    fn listened(&self) -> [u16; 5] {
        [self.moto, self.default, self.tenant1, self.tenant2, self.tenant4]
    }

    fn variables(&self) -> Variables {
        vec![
            ("MOTO_PORT", self.moto.to_string()),
            ("OPENBAO_PORT", self.openbao.to_string()),
            ("POSTGRES_DEFAULT_PORT", self.default.to_string()),
            ("POSTGRES_TENANT1_PORT", self.tenant1.to_string()),
            ("POSTGRES_TENANT2_PORT", self.tenant2.to_string()),
            ("MARIADB_TENANT4_PORT", self.tenant4.to_string()),
        ]
    }
}

/// The server of one tenant, which may do everything in it, as in `docker-compose.yml`.
async fn start_postgres(tenant: &str, port: u16) -> Result<PostgresServer> {
    let password = password_of(tenant)?.replace('\'', "''");
    let server = PostgresServer::start_on(port).await?;
    let role = format!("CREATE ROLE {tenant}_user SUPERUSER LOGIN PASSWORD '{password}'");
    server.psql("postgres", &role).await?;
    let database = format!("CREATE DATABASE {tenant}_db OWNER {tenant}_user");
    server.psql("postgres", &database).await?;
    say(&format!("PostgreSQL of {tenant}: port {port}"));
    Ok(server)
}

async fn start_mariadb(tenant: &str, port: u16) -> Result<MariadbServer> {
    let password = password_of(tenant)?.replace('\\', "\\\\").replace('\'', "''");
    let server = MariadbServer::start_on(port).await?;
    let sql = format!(
        "CREATE DATABASE {tenant}_db;
         CREATE USER '{tenant}_user'@'%' IDENTIFIED BY '{password}';
         GRANT ALL PRIVILEGES ON {tenant}_db.* TO '{tenant}_user'@'%';"
    );
    server.sql("mysql", &sql).await?;
    say(&format!("MariaDB of {tenant}: port {port}"));
    Ok(server)
}

/// Starts OpenBao with the same secrets, and says how the program is pointed at it.
async fn start_openbao(port: u16, variables: &mut Variables) -> Result<OpenBaoServer> {
    let server = OpenBaoServer::start_on(port).await?;
    let (address, token) = (server.address(), server.root_token().to_owned());
    variables.push(("VAULT_ADDR", address.clone()));
    variables.push(("VAULT_TOKEN", token.clone()));
    seed(variables).await?;
    say(&format!("OpenBao: {address}; the program uses it with"));
    for setting in [
        "TYPE=vault",
        &format!("ADDRESS={address}"),
        "AUTH__METHOD=token",
        &format!("AUTH__TOKEN={token}"),
        "KV__PATH=tenantry/{environment}/{tenant}",
    ] {
        say(&format!("    export TENANTRY__TENANCY__PROVIDER__{setting}"));
    }
    Ok(server)
}

/// Writes the tenants' secrets as `docker-compose.yml` does, with the Python that moto brings.
async fn seed(variables: &Variables) -> Result<()> {
    let python = match env::var_os(MOTO_PROGRAM) {
        Some(moto) => PathBuf::from(moto).with_file_name("python"),
        None => "python3".into(),
    };
    let status = Command::new(&python)
        .args(["deploy/compose/seed.py", "development"])
        .envs(variables.iter().cloned())
        .env("AWS_DEFAULT_REGION", required("AWS_REGION")?)
        .env("SEED_WITHOUT", "tenant3")
        .stdout(Stdio::null())
        .status()
        .await
        .with_context(|| format!("can't run {}", python.display()))?;
    if !status.success() {
        bail!("the tenants' secrets could not be written");
    }
    Ok(())
}

fn password_of(tenant: &str) -> Result<String> {
    required(&format!("{}_DB_PASSWORD", tenant.to_uppercase()))
}

fn required(variable: &str) -> Result<String> {
    env::var(variable).with_context(|| format!("{variable} is not set"))
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn say(line: &str) {
    eprintln!("dev-up: {line}");
}
