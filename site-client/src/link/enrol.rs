//! Enrolment on the wire: the one call without a client certificate, over TLS to a server whose CA has the fingerprint
//! that the central group handed over. The CA that comes back must be that very one.

use consilium_common::{Digest, Invalid, SiteId};
use consilium_proto::channel::{self, Trust, fingerprint};
use consilium_proto::v1;
use consilium_proto::v1::federation_client::FederationClient;
use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{ANSWER, LinkError, within};
use crate::ledger::Ledger;

/// What enrolment brings.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) certificate_pem: String,
    pub(crate) ca_pem: String,
}

/// Exchanges the token and a certificate request for a certificate.
pub(crate) async fn enrol(
    address: &str,
    ca_fingerprint: &str,
    site: &SiteId,
    token: &str,
    csr_pem: &str,
    ledger: &Ledger,
) -> Result<Enrolled, LinkError> {
    let trust = Trust::Fingerprint(ca_fingerprint.to_owned());
    let channel = channel::connect(address, None, &trust).await.map_err(LinkError::channel)?;
    let request = v1::EnrolRequest { site_id: site.to_string(), token: token.to_owned(), csr_pem: csr_pem.to_owned() };
    let bytes = request.encoded_len() as u64;
    ledger
        .write(None, "certificate request", bytes, Digest::of(csr_pem.as_bytes()), true)
        .map_err(LinkError::local("write the ledger", ledger.path()))?;
    let answer = within(ANSWER, FederationClient::new(channel).enrol(request)).await?;
    let ca = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes())
        .map_err(|e| Invalid::new("the CA certificate", e.to_string()))?;
    let wanted = ca_fingerprint.replace(':', "").to_ascii_lowercase();
    if fingerprint(&ca) != wanted {
        let why = "does not have the fingerprint that was given; ask the central group before you go on";
        return Err(LinkError::Refused(format!("the CA certificate that came back {why}")));
    }
    Ok(Enrolled { certificate_pem: answer.certificate_pem, ca_pem: answer.ca_pem })
}
