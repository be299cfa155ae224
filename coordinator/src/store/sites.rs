//! Sites: invitations (only the hash of a token is kept), certificates, revocations, when each was last heard of.

use consilium_common::{SiteId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, damaged};
use crate::error::{Result, While};
use crate::identity::authority::SiteCertificate;

/// An invitation as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// SHA-256 of the token.
    pub(crate) token_hash: Vec<u8>,
    pub(crate) expires: Timestamp,
    /// Hash of the public key that used the token, if one has.
    pub(crate) used_by: Option<Vec<u8>>,
}

/// A site's current certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CurrentCertificate {
    pub(crate) pem: String,
    pub(crate) serial: Vec<u8>,
    pub(crate) expires: Timestamp,
}

/// All that is known of a site.
#[derive(Clone, Debug)]
pub(crate) struct SiteRow {
    pub(crate) site: SiteId,
    pub(crate) invitation: Option<Invitation>,
    pub(crate) certificate: Option<CurrentCertificate>,
    pub(crate) revoked: bool,
    pub(crate) last_seen: Timestamp,
}

fn site_row(row: &SqliteRow) -> Result<SiteRow> {
    let read = || -> std::result::Result<_, sqlx::Error> {
        let token: Option<Vec<u8>> = row.try_get("token_hash")?;
        let token_expires: Option<i64> = row.try_get("token_expires")?;
        let used_by = row.try_get("token_key")?;
        let pem: Option<String> = row.try_get("certificate")?;
        let serial: Option<Vec<u8>> = row.try_get("serial")?;
        let expires: Option<i64> = row.try_get("certificate_expires")?;
        let revoked: Option<i64> = row.try_get("revoked_at")?;
        let invitation = token.zip(token_expires).map(|(token_hash, expires)| Invitation {
            token_hash,
            expires: Timestamp(expires),
            used_by,
        });
        let certificate = pem.zip(serial).zip(expires).map(|((pem, serial), expires)| CurrentCertificate {
            pem,
            serial,
            expires: Timestamp(expires),
        });
        let name: String = row.try_get("site")?;
        Ok((name, invitation, certificate, revoked.is_some(), Timestamp(row.try_get("last_seen")?)))
    };
    let (name, invitation, certificate, revoked, last_seen) = read().doing("reading a site")?;
    let site = name.parse().map_err(|e| damaged("reading a site", e))?;
    Ok(SiteRow { site, invitation, certificate, revoked, last_seen })
}

impl Store {
    /// Stores a new invitation; an older one of the same site is void from then on, its certificate is not.
    pub(crate) async fn invite(&self, site: &SiteId, token_hash: &[u8], expires: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO sites (site, token_hash, token_expires) VALUES (?, ?, ?)
             ON CONFLICT (site) DO UPDATE SET token_hash = excluded.token_hash,
                 token_expires = excluded.token_expires, token_key = NULL",
        )
        .bind(site.as_str())
        .bind(token_hash)
        .bind(expires.0)
        .execute(&self.pool)
        .await
        .doing("storing an invitation")?;
        Ok(())
    }

    /// Uses an invitation: the token is spent and the certificate becomes the site's only valid one. False if the token
    /// was spent or replaced meanwhile.
    pub(crate) async fn enrol(
        &self,
        site: &SiteId,
        token_hash: &[u8],
        key: &[u8],
        certificate: &SiteCertificate,
    ) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE sites SET token_key = ?, certificate = ?, serial = ?, certificate_expires = ?,
                 revoked_at = NULL, revoked_reason = NULL
             WHERE site = ? AND token_hash = ? AND token_key IS NULL",
        )
        .bind(key)
        .bind(&certificate.pem)
        .bind(&certificate.serial)
        .bind(certificate.expires.0)
        .bind(site.as_str())
        .bind(token_hash)
        .execute(&self.pool)
        .await
        .doing("storing an enrolment")?;
        Ok(done.rows_affected() == 1)
    }

    /// What is known of a site.
    pub(crate) async fn site(&self, site: &SiteId) -> Result<Option<SiteRow>> {
        let row = sqlx::query("SELECT * FROM sites WHERE site = ?").bind(site.as_str());
        row.fetch_optional(&self.pool).await.doing("reading a site")?.as_ref().map(site_row).transpose()
    }

    /// All sites, by name.
    pub(crate) async fn sites(&self) -> Result<Vec<SiteRow>> {
        let rows = sqlx::query("SELECT * FROM sites ORDER BY site").fetch_all(&self.pool).await;
        rows.doing("listing the sites")?.iter().map(site_row).collect()
    }

    /// Revokes a site's certificate and voids its invitation. False if there is no such site.
    pub(crate) async fn revoke(&self, site: &SiteId, reason: &str, now: Timestamp) -> Result<bool> {
        let doing = "revoking a site";
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT OR IGNORE INTO revocations (serial, site, at, reason)
             SELECT serial, site, ?, ? FROM sites WHERE site = ? AND serial IS NOT NULL",
        )
        .bind(now.0)
        .bind(reason)
        .bind(site.as_str())
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        let done = sqlx::query(
            "UPDATE sites SET token_hash = NULL, token_expires = NULL, token_key = NULL,
                 revoked_at = COALESCE(revoked_at, ?), revoked_reason = ? WHERE site = ?",
        )
        .bind(now.0)
        .bind(reason)
        .bind(site.as_str())
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(done.rows_affected() == 1)
    }

    /// Serial numbers of all revoked certificates with the time of the revocation, in a fixed order.
    pub(crate) async fn revocations(&self) -> Result<Vec<(Vec<u8>, Timestamp)>> {
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as("SELECT serial, at FROM revocations ORDER BY at, serial")
            .fetch_all(&self.pool)
            .await
            .doing("reading the revocations")?;
        Ok(rows.into_iter().map(|(serial, at)| (serial, Timestamp(at))).collect())
    }

    /// Notes when a site was heard of.
    pub(crate) async fn seen(&self, site: &SiteId, now: Timestamp) -> Result<()> {
        let done = sqlx::query("UPDATE sites SET last_seen = ? WHERE site = ?").bind(now.0).bind(site.as_str());
        done.execute(&self.pool).await.doing("noting a sign of life")?;
        Ok(())
    }
}
