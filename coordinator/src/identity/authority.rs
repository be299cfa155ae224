//! The certificate authority: signs server, operator and site certificates and the list of revoked ones.
//!
//! A certificate request contributes its public key and nothing else: names, usages and lifetime are ours, so a request
//! that asks to become a CA, or another site, gets an ordinary certificate of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use consilium_common::{ErrorCode, SiteId, Timestamp};
use rand::TryRng;
use rand::rngs::SysRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, RevocationReason, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use sha2::{Digest, Sha256};

use super::{CA_CERT, CA_KEY, hex, operator_uri, site_uri};
use crate::error::{CoordinatorError, Result, While};

/// Lifetime of a site's certificate.
pub(crate) const SITE_CERTIFICATE_S: u64 = 30 * 24 * 3600;
/// Lifetime of the CA: longer than any study.
const CA_YEARS: u64 = 20;
/// Lifetime of the server's and the operator's certificate; they lie beside the CA's key, so a short one gains nothing.
const OWN_YEARS: u64 = 10;
/// A peer's clock may be behind by this much.
const SKEW: Duration = Duration::from_secs(3600);
const YEAR_S: u64 = 365 * 24 * 3600;
/// A certificate request for one key is about 1 kB.
const MAX_CSR_BYTES: usize = 16 << 10;

/// The CA with its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    ca_pem: String,
}

/// A fresh certificate and its key, PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A site's fresh certificate.
#[derive(Clone, Debug)]
pub(crate) struct SiteCertificate {
    pub(crate) pem: String,
    pub(crate) serial: Vec<u8>,
    pub(crate) expires: Timestamp,
}

/// The public key of a certificate request whose signature has been checked.
pub(crate) struct RequestedKey(rcgen::PublicKey);

impl RequestedKey {
    /// Parses a PEM request and checks that the sender holds the key.
    pub(crate) fn from_csr(pem: &str) -> Result<Self> {
        let refuse = |why: String| CoordinatorError::refused(ErrorCode::InvalidInput, why);
        if pem.len() > MAX_CSR_BYTES {
            return Err(refuse(format!("the certificate request has {} bytes; one key needs about 1 kB", pem.len())));
        }
        let csr = CertificateSigningRequestParams::from_pem(pem).map_err(|e| {
            refuse(format!("the certificate request cannot be used: {e}; run `consilium-site enrol` again"))
        })?;
        Ok(Self(csr.public_key))
    }

    /// What recognises the key when a lost answer is asked for again.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        Sha256::digest(self.0.subject_public_key_info()).to_vec()
    }
}

impl Authority {
    /// Makes a new CA; answers it and its key as PEM.
    pub(crate) fn create(now: Timestamp) -> Result<(Self, String)> {
        let bad = |e: rcgen::Error| CoordinatorError::internal("making the CA", e);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bad)?;
        let mut params = base_params(now, CA_YEARS * YEAR_S)?;
        // The random part keeps the CAs of two coordinators apart in a log or an error message.
        let label = hex(&random::<4>()?);
        params.distinguished_name.push(DnType::CommonName, format!("Consilium coordinator CA {label}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(bad)?;
        let (ca_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        Ok((Self { issuer: Issuer::new(params, key), ca: certificate.der().clone(), ca_pem }, key_pem))
    }

    /// Reads the CA from an identity folder.
    pub(crate) fn load(identity: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = identity.join(name);
            fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))
        };
        let (ca_pem, key_pem) = (read(CA_CERT)?, read(CA_KEY)?);
        let bad = |why: String| CoordinatorError::internal(format!("reading the CA in {}", identity.display()), why);
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|e| bad(e.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(|e| bad(e.to_string()))?;
        Ok(Self { issuer, ca, ca_pem })
    }

    /// The CA certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The CA certificate as PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.ca_pem
    }

    /// SHA-256 of the CA certificate: what a site pins.
    pub(crate) fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.ca))
    }

    /// A certificate for the server under these DNS names and addresses; its file holds the CA too, so that a site that
    /// enrols sees the certificate whose fingerprint it was given.
    pub(crate) fn server(&self, names: &[String], now: Timestamp) -> Result<Issued> {
        let doing = || format!("making a server certificate for {}", names.join(", "));
        let mut params = base_params(now, OWN_YEARS * YEAR_S)?;
        params.distinguished_name.push(DnType::CommonName, "Consilium coordinator");
        params.subject_alt_names =
            CertificateParams::new(names).map_err(|e| CoordinatorError::internal(doing(), e))?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut issued = self.issue(params, doing)?;
        issued.certificate.push_str(&self.ca_pem);
        Ok(issued)
    }

    /// A client certificate for an operator.
    pub(crate) fn operator(&self, name: &str, now: Timestamp) -> Result<Issued> {
        let mut params = base_params(now, OWN_YEARS * YEAR_S)?;
        name_client(&mut params, name, &operator_uri(name))?;
        self.issue(params, || format!("making the certificate of operator {name}"))
    }

    /// A client certificate for a site, for the public key of its request.
    pub(crate) fn site(&self, site: &SiteId, key: &RequestedKey, now: Timestamp) -> Result<SiteCertificate> {
        let mut params = base_params(now, SITE_CERTIFICATE_S)?;
        name_client(&mut params, site.as_str(), &site_uri(site))?;
        let serial = random_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params
            .signed_by(&key.0, &self.issuer)
            .map_err(|e| CoordinatorError::internal(format!("making the certificate of site {site}"), e))?;
        Ok(SiteCertificate { pem: certificate.pem(), serial, expires: now.plus_seconds(SITE_CERTIFICATE_S) })
    }

    /// The list of revoked certificates, each with the time of its revocation.
    pub(crate) fn revocation_list(
        &self,
        revoked: &[(Vec<u8>, Timestamp)],
        now: Timestamp,
    ) -> Result<CertificateRevocationListDer<'static>> {
        let entry = |(serial, at): &(Vec<u8>, Timestamp)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(1970, 1, 1) + since_epoch(*at, 0),
            reason_code: Some(RevocationReason::PrivilegeWithdrawn),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + since_epoch(now, 0),
            next_update: date_time_ymd(1970, 1, 1) + since_epoch(now, YEAR_S),
            crl_number: SerialNumber::from(revoked.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.issuer);
        Ok(signed.map_err(|e| CoordinatorError::internal("signing the list of revoked certificates", e))?.into())
    }

    fn issue(&self, params: CertificateParams, doing: impl Fn() -> String) -> Result<Issued> {
        let bad = |e: rcgen::Error| CoordinatorError::internal(doing(), e);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bad)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(bad)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn base_params(now: Timestamp, lifetime_s: u64) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now, 0).saturating_sub(SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now, lifetime_s);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    Ok(params)
}

fn name_client(params: &mut CertificateParams, common_name: &str, uri: &str) -> Result<()> {
    params.distinguished_name.push(DnType::CommonName, common_name);
    let uri = uri.try_into().map_err(|e: rcgen::Error| CoordinatorError::internal(format!("naming {uri}"), e))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(())
}

/// The time from the epoch of rcgen's dates, `date_time_ymd(1970, 1, 1)`, to a moment.
fn since_epoch(at: Timestamp, plus_s: u64) -> Duration {
    Duration::from_millis(u64::try_from(at.0).unwrap_or(0)) + Duration::from_secs(plus_s)
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|e| CoordinatorError::internal("drawing random bytes", e))?;
    Ok(bytes)
}

/// 16 random bytes that read as a positive number without leading zeros.
fn random_serial() -> Result<Vec<u8>> {
    let mut serial = random::<16>()?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial.to_vec())
}
