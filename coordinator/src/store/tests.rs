use consilium_common::{Digest, Timestamp};

use super::*;
use crate::testing::site;

const NOW: Timestamp = Timestamp(1_000_000);

#[tokio::test]
async fn an_unknown_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'future', CURRENT_TIMESTAMP, TRUE, x'00', 0)")
        .execute(&store.pool)
        .await
        .unwrap();
    store.close().await;
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::Newer { found: 9999, .. }), "{error}");
}

#[tokio::test]
async fn what_is_stored_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
    let (synchronous,): (i64,) = sqlx::query_as("PRAGMA synchronous").fetch_one(&store.pool).await.unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn loose_uploads_are_swept_and_shared_blobs_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let (x, y) = (Digest::of(b"x"), Digest::of(b"y"));
    store.begin_upload("site-a", &x, 5, NOW).await.unwrap();
    store.begin_upload("site-a", &y, 6, Timestamp(NOW.0 + 1)).await.unwrap();
    store.begin_upload("site-b", &y, 6, NOW).await.unwrap();
    store.begin_upload("site-a", &x, 5, Timestamp(NOW.0 + 9)).await.unwrap();
    assert_eq!(store.loose_uploads("site-a").await.unwrap(), [x, y], "oldest first");
    assert_eq!(store.upload_bytes("site-a", &x).await.unwrap(), Some(5));
    assert!(store.forget_upload("site-a", &x).await.unwrap());
    assert!(!store.forget_upload("site-a", &y).await.unwrap(), "another site refers to it");
    assert_eq!(store.upload_bytes("site-a", &x).await.unwrap(), None);
}

#[tokio::test]
async fn a_new_invitation_replaces_the_token_and_not_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    let a = site("a");
    let certificate =
        crate::identity::authority::SiteCertificate { pem: "pem".into(), serial: vec![1], expires: Timestamp(5) };
    store.invite(&a, b"one", NOW).await.unwrap();
    assert!(store.enrol(&a, b"one", b"key", &certificate).await.unwrap());
    assert!(!store.enrol(&a, b"one", b"key", &certificate).await.unwrap(), "spent");
    store.invite(&a, b"two", NOW).await.unwrap();
    let row = store.site(&a).await.unwrap().unwrap();
    assert_eq!(row.certificate.unwrap().serial, [1]);
    assert_eq!(row.invitation.unwrap().used_by, None);
    assert!(store.revoke(&a, "why", NOW).await.unwrap());
    assert_eq!(store.revocations().await.unwrap(), [(vec![1], NOW)]);
    assert!(store.site(&a).await.unwrap().unwrap().revoked);
    assert!(!store.revoke(&site("nobody"), "why", NOW).await.unwrap());
}
