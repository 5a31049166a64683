//! A certificate authority, a server's certificate and a client's, made anew for each server.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The certificates of a server with TLS and of its clients, all as PEM.
///
/// The server's certificate names `localhost` only, so a client that checks the host name
/// (`verify-full`) accepts `localhost` and refuses `127.0.0.1`.
pub struct Certificates {
    /// The authority that signed the server's and the client's certificate.
    pub ca_pem: String,
    /// Another authority of the same name that signed neither: trusting it must not be enough.
    pub other_ca_pem: String,
    /// A client's certificate, signed by the authority.
    pub client_cert_pem: String,
    /// The client's key.
    pub client_key_pem: String,
    /// The server's certificate.
    pub server_cert_pem: String,
    /// The server's key.
    pub server_key_pem: String,
}

impl Certificates {
    /// Makes them all.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn make() -> Result<Self> {
        let ca = authority()?;
        let (server_cert_pem, server_key_pem) = signed(&ca, "localhost", ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client_cert_pem, client_key_pem) = signed(&ca, "client", ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self {
            ca_pem: ca.pem(),
            other_ca_pem: authority()?.pem(),
            client_cert_pem,
            client_key_pem,
            server_cert_pem,
            server_key_pem,
        })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new()).context("no certificate")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "Tenantry test authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().context("no key")?).context("no certificate authority")
}

fn signed(
    ca: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String)> {
    let mut params = CertificateParams::new([name.to_owned()]).context("no certificate")?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().context("no key")?;
    let certificate = params.signed_by(&key, ca).context("no certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}
