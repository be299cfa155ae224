//! Who uploads what. A row is written before the first byte, so that nothing lies on disk that belongs to nobody.

use consilium_common::{Digest, Timestamp};

use super::{Store, damaged};
use crate::error::{Result, While};

impl Store {
    /// Notes that `owner` uploads a blob of this size. Uploading it again is nothing new.
    pub(crate) async fn begin_upload(&self, owner: &str, digest: &Digest, bytes: u64, now: Timestamp) -> Result<()> {
        let insert = "INSERT INTO uploads (owner, digest, bytes, started) VALUES (?, ?, ?, ?)
            ON CONFLICT (owner, digest) DO UPDATE SET bytes = excluded.bytes";
        sqlx::query(insert)
            .bind(owner)
            .bind(&digest.as_bytes()[..])
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(now.0)
            .execute(&self.pool)
            .await
            .doing("noting an upload")?;
        Ok(())
    }

    /// The size of a blob that `owner` uploads or has uploaded, `None` if it does not.
    pub(crate) async fn upload_bytes(&self, owner: &str, digest: &Digest) -> Result<Option<u64>> {
        let found: Option<(i64,)> = sqlx::query_as("SELECT bytes FROM uploads WHERE owner = ? AND digest = ?")
            .bind(owner)
            .bind(&digest.as_bytes()[..])
            .fetch_optional(&self.pool)
            .await
            .doing("looking up an upload")?;
        Ok(found.map(|(bytes,)| u64::try_from(bytes).unwrap_or(0)))
    }

    /// Blobs of `owner` that no update refers to yet, oldest first.
    pub(crate) async fn loose_uploads(&self, owner: &str) -> Result<Vec<Digest>> {
        let doing = "listing uploads";
        let rows: Vec<(Vec<u8>,)> =
            sqlx::query_as("SELECT digest FROM uploads WHERE owner = ? AND kept = 0 ORDER BY started, digest")
                .bind(owner)
                .fetch_all(&self.pool)
                .await
                .doing(doing)?;
        rows.iter().map(|(digest,)| Digest::try_from(&digest[..]).map_err(|e| damaged(doing, e))).collect()
    }

    /// Forgets a blob that no update refers to. True if nobody else refers to it either: its file may go.
    pub(crate) async fn forget_upload(&self, owner: &str, digest: &Digest) -> Result<bool> {
        let doing = "forgetting an upload";
        let bytes = &digest.as_bytes()[..];
        let mut tx = self.begin().await?;
        let gone = sqlx::query("DELETE FROM uploads WHERE owner = ? AND digest = ? AND kept = 0")
            .bind(owner)
            .bind(bytes)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        let (others,): (i64,) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM uploads WHERE digest = ?1) + (SELECT COUNT(*) FROM study_blobs WHERE digest = ?1)",
        )
        .bind(bytes)
        .fetch_one(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(gone.rows_affected() == 1 && others == 0)
    }
}
