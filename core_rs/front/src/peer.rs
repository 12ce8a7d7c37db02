//! Who is at the other end: an address, and the names in a client's certificate.
//!
//! Owns: how a name is written: `CN:name`, `DNS:host.name`, `URI:scheme://…`, as in the settings.
//! Must not: verify; the handshake did. Where next: `door.rs`.

use std::net::SocketAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names in a certificate that are looked at; a certificate with more is an attack or a mistake.
const NAMES_MAX: usize = 100;

/// What is known of a client before it says a word.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// What its verified certificate says; nothing without one.
    pub(crate) names: Vec<String>,
}

impl Peer {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            names: Vec::new(),
        }
    }

    /// Takes the names of a DER certificate; none if it does not read.
    pub(crate) fn name_by(&mut self, der: &[u8]) {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return;
        };
        let common = certificate.subject().iter_common_name();
        let common = common.filter_map(|name| Some(format!("CN:{}", name.as_str().ok()?)));
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives
            .iter()
            .flat_map(|names| &names.value.general_names);
        let alternatives = alternatives.filter_map(|name| match name {
            GeneralName::DNSName(host) => Some(format!("DNS:{host}")),
            GeneralName::URI(uri) => Some(format!("URI:{uri}")),
            _ => None,
        });
        self.names = common.chain(alternatives).take(NAMES_MAX).collect();
    }
}
