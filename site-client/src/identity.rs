//! The site's identity on disk: key, certificate and the CA that the coordinator must come from. The key is made here
//! and never leaves.

use std::path::{Path, PathBuf};

use consilium_common::{SiteId, Timestamp};
use consilium_proto::channel::Identity;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::SiteError;
use crate::files::{self, SECRET};

/// The three files.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFiles {
    pub(crate) key: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) ca: PathBuf,
}

/// What the certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// The URI names in it.
    pub(crate) uris: Vec<String>,
}

impl IdentityFiles {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { key: dir.join("key.pem"), certificate: dir.join("certificate.pem"), ca: dir.join("ca.pem") }
    }

    /// The key for a certificate request: the one of an attempt before, or a new one, safe on disk before it is used.
    pub(crate) fn key_pair(&self) -> Result<KeyPair, SiteError> {
        let unusable =
            |e: rcgen::Error| SiteError::Damaged { path: self.key.clone(), why: format!("is no usable key: {e}") };
        if self.key.is_file() {
            return KeyPair::from_pem(&self.text(&self.key)?).map_err(unusable);
        }
        let pair = KeyPair::generate().map_err(unusable)?;
        files::write_atomic(&self.key, pair.serialize_pem().as_bytes(), SECRET)?;
        Ok(pair)
    }

    pub(crate) fn exists(&self) -> bool {
        self.certificate.is_file()
    }

    /// The identity for a connection, and the CA.
    pub(crate) fn load(&self) -> Result<(Identity, String), SiteError> {
        for path in [&self.certificate, &self.key, &self.ca] {
            if !path.is_file() {
                return Err(SiteError::NotEnrolled(path.clone()));
            }
        }
        let identity = Identity { certificate_pem: self.text(&self.certificate)?, key_pem: self.text(&self.key)? };
        Ok((identity, self.text(&self.ca)?))
    }

    /// What the certificate says.
    pub(crate) fn facts(&self) -> Result<Facts, SiteError> {
        facts(&self.text(&self.certificate)?).map_err(|why| SiteError::Damaged { path: self.certificate.clone(), why })
    }

    fn text(&self, path: &Path) -> Result<String, SiteError> {
        let bytes = files::read(path)?;
        String::from_utf8(bytes)
            .map_err(|_| SiteError::Damaged { path: path.to_owned(), why: "is not text".to_owned() })
    }
}

/// A certificate request for this key. Only the key in it counts: the coordinator writes the name.
pub(crate) fn request_pem(pair: &KeyPair, site: &SiteId) -> Result<String, SiteError> {
    let failed = |e: rcgen::Error| SiteError::Usage(format!("no certificate request could be made: {e}"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, site.as_str());
    params.serialize_request(pair).and_then(|request| request.pem()).map_err(failed)
}

/// Checks that a certificate is for this key and this site.
pub(crate) fn check(certificate_pem: &str, pair: &KeyPair, site: &SiteId) -> Result<Facts, String> {
    let found = facts(certificate_pem)?;
    let wanted = uri(site);
    if !found.uris.contains(&wanted) {
        return Err(format!("is for {}, not for {wanted}", found.uris.join(", ")));
    }
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|e| e.to_string())?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| e.to_string())?;
    if *parsed.public_key().subject_public_key.data != *pair.public_key_raw() {
        return Err("is for another key".to_owned());
    }
    Ok(found)
}

/// The name of a site in its certificate.
pub(crate) fn uri(site: &SiteId) -> String {
    format!("consilium://site/{site}")
}

fn facts(pem: &str) -> Result<Facts, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| format!("is no certificate: {e}"))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| format!("is no certificate: {e}"))?;
    let names = certificate.subject_alternative_name().map_err(|e| format!("has unreadable names: {e}"))?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let moment = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
    let validity = certificate.validity();
    Ok(Facts {
        not_before: moment(validity.not_before.timestamp()),
        not_after: moment(validity.not_after.timestamp()),
        uris: uris.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::SanType;

    #[test]
    fn a_certificate_must_be_for_this_key_and_site() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_dir(dir.path());
        let pair = files.key_pair().unwrap();
        assert_eq!(files.key_pair().unwrap().serialize_pem(), pair.serialize_pem(), "a second attempt keeps the key");
        let site: SiteId = "hospital-a".parse().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri(&site).try_into().unwrap())];
        let pem = params.self_signed(&pair).unwrap().pem();
        let facts = check(&pem, &pair, &site).unwrap();
        assert!(facts.not_before < facts.not_after);
        let other: SiteId = "hospital-b".parse().unwrap();
        assert!(check(&pem, &pair, &other).unwrap_err().contains("consilium://site/hospital-b"));
        assert_eq!(check(&pem, &KeyPair::generate().unwrap(), &site).unwrap_err(), "is for another key");
        assert!(request_pem(&pair, &site).unwrap().contains("CERTIFICATE REQUEST"));
    }
}
