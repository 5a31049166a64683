//! Logging in with the names and passwords that libpq takes.
//!
//! PostgreSQL's verifier of a password is made of what SASLprep (RFC 4013) makes of it, or of the
//! password itself if SASLprep refuses it; libpq does the same. sqlx fails if SASLprep refuses the
//! password (since <https://github.com/transact-rs/sqlx/issues/4196>), and it puts the user's name
//! into the exchange; a `,` ends the name there, and SASLprep may refuse it. libpq leaves the name
//! out, and the server ignores it.

use std::time::Duration;

use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use stringprep::{saslprep, tables};
use tenantry_core::SecretInvalid;

/// Why nothing was opened.
pub(super) enum LoginError {
    /// The password cannot be sent; no part of it is repeated.
    Password(SecretInvalid),
    /// Anything else.
    Sqlx(sqlx::Error),
}

/// Logs in. `options` have everything but the password and the application's name.
pub(super) async fn log_in(
    options: PgConnectOptions,
    application_name: &str,
    password: &str,
) -> Result<PgConnection, LoginError> {
    let options = options.password(password);
    let named = options.clone().application_name(application_name);
    let outcome = if is_sent_unchanged(options.get_username()) {
        named.connect().await
    } else {
        match without_name(options, application_name).connect().await {
            // MD5 and passwords in clear text go with the name, and with them the other way works.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INVALID_PASSWORD) => {
                named.connect().await.map_err(|_| sqlx::Error::Database(error))
            }
            outcome => outcome,
        }
    };
    outcome.map_err(|error| match error {
        sqlx::Error::Configuration(_) if saslprep(password).is_err() => LoginError::Password(refused_password()),
        sqlx::Error::Database(error)
            if error.code().as_deref() == Some(INVALID_PASSWORD) && !is_prepared_alike(password) =>
        {
            LoginError::Password(refused_password())
        }
        error => LoginError::Sqlx(error),
    })
}

/// The SQLSTATE `invalid_password`.
const INVALID_PASSWORD: &str = "28P01";

fn refused_password() -> SecretInvalid {
    SecretInvalid::new(
        "password",
        "has characters that SASLprep (RFC 4013) refuses, such as an emoji or a tab, and sqlx cannot log in with it by \
         SCRAM-SHA-256: choose another password",
    )
}

/// Whether sqlx sends the name unchanged in its SCRAM exchange.
fn is_sent_unchanged(username: &str) -> bool {
    !username.contains(',') && saslprep(username).is_ok()
}

/// Leaves the name out of the exchange, as libpq does. The server reads the start-up packet's last
/// `user`, which follows the application's name here.
fn without_name(options: PgConnectOptions, application_name: &str) -> PgConnectOptions {
    let username = options.get_username().to_owned();
    options
        .application_name(&format!("{application_name}\0user\0{username}"))
        .username("")
}

/// Whether PostgreSQL (`pg_saslprep`) and sqlx make the same of a password. PostgreSQL looks for
/// what is prohibited before it normalizes, sqlx afterwards; what would be empty PostgreSQL leaves
/// as it is.
fn is_prepared_alike(password: &str) -> bool {
    let mapped: Vec<char> = password
        .chars()
        .map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c })
        .filter(|c| !tables::commonly_mapped_to_nothing(*c))
        .collect();
    let prohibited = |c: char| {
        tables::ascii_control_character(c)
            || tables::non_ascii_control_character(c)
            || tables::private_use(c)
            || tables::non_character_code_point(c)
            || tables::inappropriate_for_plain_text(c)
            || tables::inappropriate_for_canonical_representation(c)
            || tables::change_display_properties_or_deprecated(c)
            || tables::tagging_character(c)
            || tables::unassigned_code_point(c)
    };
    let ends = |c: Option<&char>| c.is_some_and(|c| tables::bidi_r_or_al(*c));
    let is_bidirectional = mapped.iter().any(|c| tables::bidi_r_or_al(*c));
    let mixes = mapped.iter().any(|c| tables::bidi_l(*c)) || !ends(mapped.first()) || !ends(mapped.last());
    password.is_ascii() || !(mapped.is_empty() || mapped.iter().any(|c| prohibited(*c)) || (is_bidirectional && mixes))
}

/// Lets a login go on for a while before others have their turn. A password is hashed in 4,096
/// rounds (RFC 5802 §2.2, `Hi`), and sqlx steps back in the line of all tasks after every five: on
/// a busy server that is hundreds of waits, and seconds.
pub(super) async fn in_long_steps<F: Future>(login: F) -> F::Output {
    /// Of every step; what waits for the server is asked in vain as often.
    const POLLS: u32 = 300;
    const LONGEST: Duration = Duration::from_millis(5);
    let mut login = std::pin::pin!(login);
    std::future::poll_fn(|context| {
        let began = std::time::Instant::now();
        for _ in 1..POLLS {
            let polled = login.as_mut().poll(context);
            if polled.is_ready() || began.elapsed() >= LONGEST {
                return polled;
            }
        }
        login.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_scram_would_cut_is_left_out() {
        for name in ["app", "a=b", "a b", "\u{e9}", "a\"b"] {
            assert!(is_sent_unchanged(name), "{name}");
        }
        for name in ["a,b", "\u{1f600}", "a\tb", "a\u{627}"] {
            assert!(!is_sent_unchanged(name), "{name}");
        }
    }

    #[test]
    fn a_password_that_both_prepare_alike_is_known() {
        for password in [
            "",
            "plain",
            "\u{a0}x",
            "x\u{ad}y",
            "\u{fb01}",
            "\u{627}\u{628}",
            "a\u{301}",
        ] {
            assert!(is_prepared_alike(password), "{password:?}");
        }
        // A deprecated mark and a letter newer than Unicode 3.2, both of which normalization
        // replaces.
        for password in ["a\u{340}", "x\u{2c7c}", "\u{ad}", "a\u{627}", "\u{1f600}"] {
            assert!(!is_prepared_alike(password), "{password:?}");
        }
    }
}
