//! The logins that have not ended.
//!
//! The client library has no time limit for a login: one to a server that hangs keeps its thread,
//! and the threads are those of all tenants.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

/// The most logins to one server at a time.
const MOST: usize = 16;

/// Bounds the logins to each server.
#[derive(Debug)]
pub(crate) struct Logins {
    most: usize,
    servers: Mutex<HashMap<(String, u16), Arc<Semaphore>>>,
}

impl Logins {
    /// Of a program with so many threads: one server gets a quarter of them at most.
    pub(crate) fn of_threads(threads: usize) -> Self {
        Self {
            most: (threads / 4).clamp(1, MOST),
            servers: Mutex::default(),
        }
    }

    /// What a login to a server takes one permit of, until it has ended.
    pub(crate) fn to(&self, server: (String, u16)) -> Arc<Semaphore> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, logins| Arc::strong_count(logins) > 1);
        let logins = servers.entry(server);
        Arc::clone(logins.or_insert_with(|| Arc::new(Semaphore::new(self.most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_logins_is_forgotten() {
        let logins = Logins::of_threads(8);
        let of = |host: &str| logins.to((host.to_owned(), 1521));
        let permit = of("a").try_acquire_owned().unwrap();
        let other = of("a").try_acquire_owned().unwrap();
        assert!(of("a").try_acquire_owned().is_err());
        assert!(of("b").try_acquire_owned().is_ok());
        drop((permit, other));
        assert_eq!(of("c").available_permits(), 2);
        assert_eq!(logins.servers.lock().unwrap().len(), 1);
    }
}
