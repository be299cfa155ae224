//! Invitation and enrolment: a one-time token, handed over out of band, becomes a site's certificate.
//!
//! Only the token's hash is stored. A token works once, for one site and until it expires; a site whose answer was lost
//! gets the same certificate again for the same token and key.

use consilium_common::{ErrorCode, SiteId, Timestamp};
use sha2::{Digest, Sha256};
use tracing::info;

use super::authority::{Authority, RequestedKey, random};
use super::hex;
use crate::error::{CoordinatorError, Result};
use crate::store::Store;

/// Lifetime of a token that the operator does not set.
pub(crate) const DEFAULT_TOKEN_S: u64 = 7 * 24 * 3600;
/// Longest lifetime of a token: it is a secret that lies about.
const MAX_TOKEN_S: u64 = 90 * 24 * 3600;
/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 24;
/// No token is longer than this.
const MAX_TOKEN_LEN: usize = 256;

/// A fresh invitation; the token is not stored and cannot be shown again.
pub(crate) struct Invited {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

/// Invites a site. A site that is known keeps its certificate until it uses the new token.
pub(crate) async fn invite(store: &Store, site: &SiteId, valid_s: u64, now: Timestamp) -> Result<Invited> {
    let valid_s = if valid_s == 0 { DEFAULT_TOKEN_S } else { valid_s };
    if valid_s > MAX_TOKEN_S {
        let why = format!("a token lives at most {} days", MAX_TOKEN_S / 86_400);
        return Err(CoordinatorError::refused(ErrorCode::InvalidInput, why));
    }
    let token = hex(&random::<TOKEN_BYTES>()?);
    let expires = now.plus_seconds(valid_s);
    store.invite(site, &hash(&token), expires).await?;
    info!(%site, valid_s, "site invited");
    Ok(Invited { token, expires })
}

/// Turns a token and a certificate request into a certificate (PEM).
pub(crate) async fn enrol(
    store: &Store,
    authority: &Authority,
    site: &SiteId,
    token: &str,
    csr: &str,
    now: Timestamp,
) -> Result<String> {
    let key = RequestedKey::from_csr(csr)?;
    // Twice at most: somebody else may use the token between the look and the write.
    for _ in 0..2 {
        let row = store.site(site).await?;
        let hashed = hash(token.trim().get(..MAX_TOKEN_LEN).unwrap_or(token.trim()));
        let invitation = row.as_ref().and_then(|row| row.invitation.as_ref()).filter(|i| i.token_hash == hashed);
        let Some(invitation) = invitation else {
            return Err(refuse(format!("the token is not a valid one for site {site}")));
        };
        if now > invitation.expires {
            return Err(refuse(format!("the token of site {site} has expired")));
        }
        if let Some(used_by) = &invitation.used_by {
            let certificate = row.as_ref().and_then(|row| row.certificate.as_ref());
            return match certificate {
                Some(certificate) if *used_by == key.fingerprint() => Ok(certificate.pem.clone()),
                _ => Err(refuse(format!("the token of site {site} was used before, with another key"))),
            };
        }
        let certificate = authority.site(site, &key, now)?;
        if store.enrol(site, &hashed, &key.fingerprint(), &certificate).await? {
            info!(%site, serial = %hex(&certificate.serial), "site enrolled");
            return Ok(certificate.pem);
        }
    }
    Err(CoordinatorError::refused(ErrorCode::Unavailable, "the token is being used elsewhere; try again"))
}

fn refuse(what: String) -> CoordinatorError {
    let why = format!("{what}; ask the central group for a new invitation (`site invite`)");
    CoordinatorError::refused(ErrorCode::Unauthenticated, why)
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::identity::{Peer, peer_of};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    async fn house() -> (tempfile::TempDir, Store, Authority, SiteId) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        (dir, store, Authority::create(NOW).unwrap().0, "a".parse().unwrap())
    }

    fn csr(params: CertificateParams, key: &KeyPair) -> String {
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    fn code(result: Result<String>) -> (ErrorCode, String) {
        let error = result.unwrap_err();
        (error.code(), error.to_string())
    }

    #[tokio::test]
    async fn a_token_works_once_and_a_lost_answer_is_given_again() {
        let (_dir, store, authority, site) = house().await;
        let token = invite(&store, &site, 0, NOW).await.unwrap().token;
        assert!(token.len() >= 32);
        let key = KeyPair::generate().unwrap();
        let request = csr(CertificateParams::default(), &key);
        let first = enrol(&store, &authority, &site, &token, &request, NOW).await.unwrap();
        assert_eq!(enrol(&store, &authority, &site, &token, &request, NOW).await.unwrap(), first);
        let other = csr(CertificateParams::default(), &KeyPair::generate().unwrap());
        let (kind, text) = code(enrol(&store, &authority, &site, &token, &other, NOW).await);
        assert_eq!(kind, ErrorCode::Unauthenticated);
        assert!(text.contains("used before") && text.contains("new invitation"), "{text}");
    }

    #[tokio::test]
    async fn a_token_expires_and_belongs_to_one_site() {
        let (_dir, store, authority, site) = house().await;
        let token = invite(&store, &site, 60, NOW).await.unwrap().token;
        let request = csr(CertificateParams::default(), &KeyPair::generate().unwrap());
        let late = enrol(&store, &authority, &site, &token, &request, NOW.plus_seconds(61)).await;
        assert!(code(late).1.contains("expired"));
        let other: SiteId = "b".parse().unwrap();
        invite(&store, &other, 60, NOW).await.unwrap();
        assert!(code(enrol(&store, &authority, &other, &token, &request, NOW).await).1.contains("not a valid one"));
        assert!(code(enrol(&store, &authority, &site, "", &request, NOW).await).1.contains("not a valid one"));
        assert!(enrol(&store, &authority, &site, &token, "rubbish", NOW).await.is_err());
        store.revoke(&site, "gone", NOW).await.unwrap();
        assert!(enrol(&store, &authority, &site, &token, &request, NOW).await.is_err(), "revocation voids the token");
    }

    #[tokio::test]
    async fn a_request_contributes_its_key_and_nothing_else() {
        let (_dir, store, authority, site) = house().await;
        let token = invite(&store, &site, 0, NOW).await.unwrap().token;
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut greedy = CertificateParams::default();
        greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        greedy.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        greedy.subject_alt_names = vec![SanType::URI("consilium://operator/admin".try_into().unwrap())];
        let pem = enrol(&store, &authority, &site, &token, &csr(greedy, &key), NOW).await.unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert!(matches!(peer_of(&der), Ok(Peer::Site { site: named, .. }) if named == site));
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(!parsed.is_ca());
        assert!(!parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
        let days = (parsed.validity().not_after.timestamp() - NOW.0 / 1000) / 86_400;
        assert_eq!(days, 30);
    }
}
