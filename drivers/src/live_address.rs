//! Finds a working address of a host name if its first one does not answer.
//!
//! sqlx tries a name's addresses one after the other. An address that drops packets, such as an
//! IPv6 address without a route, uses up the login's time, and the next one is never tried. So
//! while a login is slow, this module tries the addresses in parallel.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tenantry_core::{DatabaseConfig, TlsMode};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::server_address::ServerAddress;

/// How long a login may take before the addresses of its host are tried.
const SLOW: Duration = Duration::from_millis(500);
/// How long an address may take to accept a connection.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Waits for `login`, which names the host. If it is slow, since it waits at an address of the host
/// that is silent and another one accepts connections, it returns that one, to log in to instead.
///
/// `verify-full` checks the host's name, so it does not log in to an address.
pub(crate) async fn logged_in<T>(
    address: &ServerAddress<'_>,
    config: &DatabaseConfig,
    login: impl Future<Output = T>,
) -> Result<T, IpAddr> {
    let mut login = pin!(login);
    let by_name = config.tls.mode == Some(TlsMode::VerifyFull) || address.is_socket();
    if by_name || address.host.parse::<IpAddr>().is_ok() {
        return Ok(login.await);
    }
    if let Ok(outcome) = timeout(SLOW, &mut login).await {
        return Ok(outcome);
    }
    let look = async {
        let addresses: Vec<_> = lookup_host((address.host, address.port)).await.ok()?.collect();
        beside_a_dead_one(&addresses).await
    };
    tokio::select! {
        biased;
        outcome = &mut login => Ok(outcome),
        Some(live) = look => Err(live),
        else => Ok(login.await),
    }
}

/// Returns an address that accepts a connection, if the one that a login waits at does not in time.
async fn beside_a_dead_one(addresses: &[SocketAddr]) -> Option<IpAddr> {
    // A login goes past an address that refuses, and waits at the first that does not. One that is
    // slow at a live address goes on: it names the host, as proxies by TLS demand.
    let dead = async {
        for address in addresses {
            match timeout(SLOW, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return None,
                Ok(Err(_)) => {}
                Err(_) => return Some(address.ip()),
            }
        }
        None
    };
    let tried = addresses.iter().skip(1).map(async |address| {
        let accepted = timeout(LONGEST_LOOK, TcpStream::connect(address)).await;
        accepted.is_ok_and(|outcome| outcome.is_ok()).then_some(address.ip())
    });
    let mut accepting = pin!(tried.collect::<FuturesUnordered<_>>().filter_map(std::future::ready));
    let (dead, live) = tokio::join!(dead, accepting.next());
    live.filter(|live| dead.is_some_and(|dead| dead != *live))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    /// An address that drops packets: its queue of connections is full.
    async fn dead() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(accepted) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(accepted.unwrap());
            assert!(waiting.len() < 100, "the queue is never full");
        }
        (address, waiting, listener)
    }

    #[tokio::test]
    async fn the_address_beside_a_dead_one_is_found() {
        let (dead, _waiting, _listener) = dead().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.3:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let another = tokio::net::TcpListener::bind("127.0.0.5:0").await.unwrap();
        let other = another.local_addr().unwrap();
        let refused = SocketAddr::new([127, 0, 0, 4].into(), live.port());
        assert_eq!(beside_a_dead_one(&[dead, refused]).await, None);
        assert_eq!(beside_a_dead_one(&[dead, refused, live]).await, Some(live.ip()));
        // Neither a dead address alone nor a live one that is slow is left.
        assert_eq!(beside_a_dead_one(&[dead, dead]).await, None);
        assert_eq!(beside_a_dead_one(&[live, dead]).await, None);
        // A login has gone past an address that refuses.
        assert_eq!(beside_a_dead_one(&[refused, live]).await, None);
        assert_eq!(beside_a_dead_one(&[refused, dead, live]).await, Some(live.ip()));
        for _ in 0..20 {
            assert_eq!(beside_a_dead_one(&[live, other]).await, None);
        }
        assert_eq!(beside_a_dead_one(&[]).await, None);
    }
}
