//! Finding a free port.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, bail};

/// Below the range that systems take outgoing ports from (32768 and up on Linux), so that no
/// client's socket takes the port of a server that is stopped for a moment.
const PORTS: Range<u16> = 20_000..32_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A TCP port that is free on 127.0.0.1 now. This process returns each port only once.
///
/// Another process can still take it before it is used, so the caller must retry with another port
/// if its server cannot bind this one.
///
/// # Errors
/// No port of the range is free.
pub fn free_port() -> Result<u16> {
    let start = RandomState::new().hash_one("port") as usize;
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for step in 0..PORTS.len() {
        let Some(port) = PORTS.clone().nth((start % PORTS.len() + step) % PORTS.len()) else {
            continue;
        };
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port from {} to {}", PORTS.start, PORTS.end)
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn a_free_port_can_be_bound_and_is_given_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            // A program that another test starts has this process's sockets for a moment.
            let bound = (0..100).any(|_| {
                let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
                bound || {
                    thread::sleep(Duration::from_millis(10));
                    false
                }
            });
            assert!(bound, "{port}");
        }
    }

    #[test]
    fn a_port_in_use_is_not_given() {
        // Another process may take a port first.
        let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).ok();
        let taken = (0..50).find_map(bind).unwrap();
        let taken = taken.local_addr().unwrap().port();
        for _ in 0..50 {
            assert_ne!(free_port().unwrap(), taken);
        }
    }
}
