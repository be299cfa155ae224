//! Who calls: the identity in the client's certificate, looked up at every call, so that an open connection of a site
//! that was revoked meanwhile ends with its next call.

use consilium_common::{ErrorCode, SiteId};
use tonic::{Request, Status};
use tracing::warn;

use super::Context;
use crate::error::{CoordinatorError, Result};
use crate::identity::{Peer, peer_of};

/// The identity in the certificate of whoever sent this.
pub(super) fn peer<T>(request: &Request<T>) -> Result<Peer> {
    let refuse = |why: &str| CoordinatorError::refused(ErrorCode::Unauthenticated, why);
    let certificates = request.peer_certs();
    let Some(leaf) = certificates.as_ref().and_then(|chain| chain.first()) else {
        return Err(refuse("this call needs a client certificate; enrol first with `consilium-site enrol`"));
    };
    peer_of(leaf).map_err(|why| refuse(&format!("the client certificate {why}")))
}

impl Context {
    /// The site that calls, in good standing.
    pub(super) async fn site(&self, peer: Result<Peer>) -> Result<SiteId, Status> {
        let (site, serial) = match peer? {
            Peer::Site { site, serial } => (site, serial),
            Peer::Operator { name } => {
                let why = format!("operator {name} is not a site; this call is for sites");
                return Err(CoordinatorError::refused(ErrorCode::Forbidden, why).into());
            }
        };
        self.check_standing(&site, &serial).await?;
        let now = self.clock.now();
        if self.presence.seen(&site, now)
            && let Err(error) = self.intake.store.seen(&site, now).await
        {
            // A sign of life that is not written down harms nobody.
            warn!(%site, %error, "a sign of life was not stored");
        }
        Ok(site)
    }

    async fn check_standing(&self, site: &SiteId, serial: &[u8]) -> Result<()> {
        let row = self.intake.store.site(site).await?;
        let certificate = row.as_ref().and_then(|row| row.certificate.as_ref());
        let why = match (&row, certificate) {
            (Some(row), _) if row.revoked => {
                format!("the certificate of site {site} is revoked; ask the central group for a new invitation")
            }
            (Some(_), Some(current)) if current.serial == serial => return Ok(()),
            (Some(_), Some(_)) => {
                format!("this certificate of site {site} was replaced by a newer one; use that, or enrol again")
            }
            _ => format!("site {site} is not enrolled here; ask the central group for an invitation"),
        };
        Err(CoordinatorError::refused(ErrorCode::Forbidden, why))
    }

    /// The operator who calls.
    pub(super) fn operator(&self, peer: Result<Peer>) -> Result<String, Status> {
        match peer? {
            Peer::Operator { name } => Ok(name),
            Peer::Site { site, .. } => {
                let why = format!("site {site} is not an operator; this call needs an operator certificate");
                Err(CoordinatorError::refused(ErrorCode::Forbidden, why).into())
            }
        }
    }

    /// Either of them.
    pub(super) async fn anyone(&self, peer: Result<Peer>) -> Result<Caller, Status> {
        match peer? {
            Peer::Operator { .. } => Ok(Caller::Operator),
            site @ Peer::Site { .. } => Ok(Caller::Site(self.site(Ok(site)).await?)),
        }
    }
}

/// Who transfers blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Somebody of the central group.
    Operator,
    /// A site in good standing.
    Site(SiteId),
}
