//! Encryption from certificates that can be replaced while connections are open.
//!
//! Owns: turning PEM into what a handshake needs. Must not: read files; who hands the bytes over
//! has checked that they belong together and are in their time. Where next: `accept.rs`.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// The protocol that gRPC is spoken over; a client that offers another is not one of ours.
const PROTOCOL: &[u8] = b"h2";

/// What a listener needs to speak TLS.
#[derive(Clone)]
pub struct Material {
    /// PEM: the server's certificate, then its chain.
    pub certificate: Vec<u8>,
    /// PEM: its private key.
    pub private_key: Vec<u8>,
    /// PEM: with it each client must show a certificate of one of these authorities.
    pub client_authorities: Option<Vec<u8>>,
}

impl std::fmt::Debug for Material {
    /// Shows nothing of the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Material").finish_non_exhaustive()
    }
}

/// Certificates that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the listener's certificates can't be used: {0}")]
pub struct TlsError(String);

/// The encryption in force.
pub(crate) struct Encryption {
    /// Held for a copy of the pointer only.
    acceptor: RwLock<TlsAcceptor>,
}

impl Encryption {
    pub(crate) fn new(material: &Material) -> Result<Self, TlsError> {
        Ok(Self {
            acceptor: RwLock::new(acceptor(material)?),
        })
    }

    /// Gives new connections other certificates; open ones keep theirs.
    pub(crate) fn replace(&self, material: &Material) -> Result<(), TlsError> {
        let acceptor = acceptor(material)?;
        *self
            .acceptor
            .write()
            .unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner);
        acceptor.clone()
    }
}

fn acceptor(material: &Material) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&material.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&material.private_key).map_err(told)?;
    // Named, so that it does not depend on what else the process has linked.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(told)?;
    let builder = match &material.client_authorities {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(pem)? {
                roots.add(authority).map_err(told)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(told)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(told)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(told)?;
    if found.is_empty() {
        return Err(TlsError("there is no certificate in the PEM".to_owned()));
    }
    Ok(found)
}

fn told(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}
