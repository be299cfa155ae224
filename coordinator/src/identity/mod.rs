//! Who is who: the coordinator's own CA, the certificates that it issues, and the typed identity read from a peer's
//! certificate. Identities are URI names inside certificates, `consilium://site/NAME` and `consilium://operator/NAME`.

pub(crate) mod authority;
pub(crate) mod enrolment;
pub(crate) mod init;
pub(crate) mod tls;

use std::fmt;

use consilium_common::SiteId;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The file names inside the identity folder.
pub(crate) const CA_CERT: &str = "ca.pem";
pub(crate) const CA_KEY: &str = "ca.key";
pub(crate) const SERVER_CERT: &str = "server.pem";
pub(crate) const SERVER_KEY: &str = "server.key";
pub(crate) const OPERATOR_CERT: &str = "operator.pem";
pub(crate) const OPERATOR_KEY: &str = "operator.key";

const SITE_PREFIX: &str = "consilium://site/";
const OPERATOR_PREFIX: &str = "consilium://operator/";

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A site, with the serial number of its certificate.
    Site { site: SiteId, serial: Vec<u8> },
    /// Somebody of the central group.
    Operator { name: String },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site { site, serial } => write!(f, "site {site} (serial {})", hex(serial)),
            Self::Operator { name } => write!(f, "operator {name}"),
        }
    }
}

/// The URI by which a certificate names a site.
pub(crate) fn site_uri(site: &SiteId) -> String {
    format!("{SITE_PREFIX}{site}")
}

/// The URI by which a certificate names an operator.
pub(crate) fn operator_uri(name: &str) -> String {
    format!("{OPERATOR_PREFIX}{name}")
}

/// Reads the identity of a certificate. That it is genuine has been checked in the handshake.
pub(crate) fn peer_of(certificate: &CertificateDer<'_>) -> Result<Peer, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| format!("cannot be read: {e}"))?;
    let names = parsed.subject_alternative_name().map_err(|e| format!("has unreadable names: {e}"))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("consilium://") => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err("does not name exactly one consilium:// identity".into());
    };
    if let Some(name) = uri.strip_prefix(SITE_PREFIX) {
        let site = name.parse().map_err(|e| format!("names an impossible site: {e}"))?;
        return Ok(Peer::Site { site, serial: trimmed(parsed.raw_serial()) });
    }
    match uri.strip_prefix(OPERATOR_PREFIX) {
        Some(name) if !name.is_empty() => Ok(Peer::Operator { name: name.to_owned() }),
        _ => Err(format!("names {uri}, which is neither a site nor an operator")),
    }
}

/// A serial number without leading zeros, so that one number has one form.
fn trimmed(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0, 0x12, 0x34]));
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn identities_are_read_from_the_uri() {
        let site = Peer::Site { site: "hospital-a".parse().unwrap(), serial: vec![0x12, 0x34] };
        assert_eq!(peer_of(&certificate(&["consilium://site/hospital-a"])), Ok(site));
        let operator = Peer::Operator { name: "admin".into() };
        assert_eq!(peer_of(&certificate(&["https://x", "consilium://operator/admin"])), Ok(operator));
    }

    #[test]
    fn ambiguous_or_foreign_names_are_no_identity() {
        for uris in [
            &[][..],
            &["spiffe://x/site/a"],
            &["consilium://site/../x"],
            &["consilium://operator/"],
            &["consilium://robot/x"],
            &["consilium://site/a", "consilium://operator/admin"],
        ] {
            assert!(peer_of(&certificate(uris)).is_err(), "{uris:?}");
        }
    }
}
