//! Enrolment: a key made here, a request, a one-time token, and a certificate that is checked before it is kept.

use consilium_common::Timestamp;

use crate::config::SiteConfig;
use crate::error::SiteError;
use crate::files::{self, SECRET};
use crate::identity::{self, IdentityFiles};
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::link;

/// What enrolment brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolReport {
    /// The name in the certificate.
    pub uri: String,
    /// When it expires.
    pub not_after: Timestamp,
}

/// Enrols this site. After a failure it can be tried again with the same token: the key is kept.
pub async fn enrol(config: &SiteConfig, token: &str, ca_fingerprint: &str) -> Result<EnrolReport, SiteError> {
    let layout = Layout::new(&config.state_dir);
    let files = IdentityFiles::in_dir(&layout.identity());
    if files.exists() {
        return Err(SiteError::AlreadyEnrolled(layout.identity()));
    }
    files::create_private_dir(layout.root())?;
    let ledger = Ledger::open(&layout.ledger())?;
    let pair = files.key_pair()?;
    let csr = identity::request_pem(&pair, &config.site)?;
    let answer = link::enrol(&config.coordinator, ca_fingerprint, &config.site, token, &csr, &ledger).await?;
    let facts = identity::check(&answer.certificate_pem, &pair, &config.site)
        .map_err(|why| SiteError::Refused(format!("the certificate that came back {why}; ask the central group")))?;
    files::write_atomic(&files.ca, answer.ca_pem.as_bytes(), SECRET)?;
    // Last: with a certificate in place the site counts as enrolled.
    files::write_atomic(&files.certificate, answer.certificate_pem.as_bytes(), SECRET)?;
    Ok(EnrolReport { uri: identity::uri(&config.site), not_after: facts.not_after })
}
