//! In place of the certificate, in a program without the feature `tls`: none can be loaded, so that
//! no listener has one.

use std::{convert::Infallible, io, sync::Arc};

use tokio::net::TcpStream;

use crate::config::{Fault, Loaded, ServerTls, needs_feature};

/// A certificate, of which there is none.
#[derive(Debug)]
pub(crate) enum Certificate {}

/// Why a certificate cannot be shown to clients.
pub(crate) type TlsError = Infallible;

impl Certificate {
    /// Refuses `server.tls`.
    pub(crate) async fn load(loaded: &Loaded, _: &ServerTls) -> Result<Arc<Self>, Vec<Fault>> {
        Err(vec![loaded.fault_at(&["server", "tls"], needs_feature("tls"))])
    }

    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        match **self {}
    }
}

/// What a listener would show a certificate with.
#[derive(Clone)]
pub(crate) enum TlsAcceptor {}

impl TlsAcceptor {
    pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<TcpStream> {
        match *self {}
    }
}

/// What would read a certificate anew.
pub(crate) struct Renewal(Arc<Certificate>);

impl Renewal {
    pub(crate) fn new(certificate: Arc<Certificate>) -> Self {
        Self(certificate)
    }

    pub(crate) async fn read(&mut self, _: bool) {
        match *self.0 {}
    }
}
