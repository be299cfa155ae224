//! Who gets in: over real TLS on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Coordinator, site};
use consilium_common::ErrorCode;
use consilium_proto::channel::{self, Cause, Identity, Trust};
use consilium_proto::status::from_status;
use consilium_proto::v1;
use consilium_proto::v1::federation_client::FederationClient;
use consilium_proto::v1::operator_client::OperatorClient as OperatorWire;
use rcgen::{CertificateParams, KeyPair};
use tonic::Status;
use tonic::transport::Channel;

async fn next_task(channel: &Channel) -> Result<(), Status> {
    FederationClient::new(channel.clone()).next_task(v1::NextTaskRequest { wait_s: 0 }).await.map(|_| ())
}

/// How a certificate fares: the refusal comes with the connection or, in TLS 1.3, with the first call on it.
async fn cause_of(coordinator: &Coordinator, identity: &Identity, ca_pem: &str) -> (Cause, String) {
    match coordinator.connect(identity, ca_pem).await {
        Err(channel::ChannelError::Transport(error)) => (channel::cause(&error), channel::explain(&error)),
        Err(error) => panic!("{error}"),
        Ok(channel) => {
            let status = next_task(&channel).await.unwrap_err();
            (channel::cause(&status), channel::explain(&status))
        }
    }
}

#[tokio::test]
async fn a_site_enrols_and_works() {
    let coordinator = Coordinator::start().await;
    let a = coordinator.site("a").await;
    next_task(&a.channel).await.unwrap();
    let sites = coordinator.operator.sites().await.unwrap();
    assert_eq!(sites.len(), 1);
    assert_eq!(sites[0].standing, consilium_coordinator::view::Standing::Enrolled);
    assert!(sites[0].last_seen.is_some() && sites[0].certificate_expires.is_some());
}

#[tokio::test]
async fn a_token_works_once() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.operator.invite(&site("a"), 0).await.unwrap().token;
    let key = KeyPair::generate().unwrap();
    let first = coordinator.enrol_with("a", &token, &key).await.unwrap();
    let lost_answer = coordinator.enrol_with("a", &token, &key).await.unwrap();
    assert_eq!(first.certificate_pem, lost_answer.certificate_pem);
    let thief = coordinator.enrol_with("a", &token, &KeyPair::generate().unwrap()).await.unwrap_err();
    assert_eq!(from_status(&thief), ErrorCode::Unauthenticated);
    assert!(thief.message().contains("used before"), "{thief}");
}

#[tokio::test]
async fn a_token_expires() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.operator.invite(&site("a"), 1).await.unwrap().token;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let late = coordinator.enrol_with("a", &token, &KeyPair::generate().unwrap()).await.unwrap_err();
    assert!(late.message().contains("expired") && late.message().contains("new invitation"), "{late}");
}

#[tokio::test]
async fn without_a_certificate_there_is_only_enrolment() {
    let coordinator = Coordinator::start().await;
    let trust = Trust::Fingerprint(coordinator.fingerprint.clone());
    let channel = channel::connect(&coordinator.address, None, &trust).await.unwrap();
    let join = FederationClient::new(channel.clone()).join(v1::JoinRequest { study_id: "s".into() }).await;
    let status = join.unwrap_err();
    assert_eq!(from_status(&status), ErrorCode::Unauthenticated);
    assert!(status.message().contains("consilium-site enrol"), "{status}");
    let list = OperatorWire::new(channel).list_sites(v1::ListSitesRequest {}).await;
    assert_eq!(from_status(&list.unwrap_err()), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_site_is_no_operator_and_an_operator_no_site() {
    let coordinator = Coordinator::start().await;
    let a = coordinator.site("a").await;
    let list = OperatorWire::new(a.channel).list_sites(v1::ListSitesRequest {}).await;
    assert_eq!(from_status(&list.unwrap_err()), ErrorCode::Forbidden);
    let read = |name: &str| std::fs::read_to_string(coordinator.dir.path().join("identity").join(name)).unwrap();
    let operator = Identity { certificate_pem: read("operator.pem"), key_pem: read("operator.key") };
    let channel = coordinator.connect(&operator, &read("ca.pem")).await.unwrap();
    assert_eq!(from_status(&next_task(&channel).await.unwrap_err()), ErrorCode::Forbidden);
}

#[tokio::test]
async fn the_server_of_another_ca_is_not_believed() {
    let (ours, theirs) = (Coordinator::start().await, Coordinator::start().await);
    let trust = Trust::Fingerprint(theirs.fingerprint.clone());
    let Err(channel::ChannelError::Transport(error)) = channel::connect(&ours.address, None, &trust).await else {
        panic!("a pinned fingerprint that does not fit must end the connection");
    };
    assert_eq!(channel::cause(&error), Cause::UntrustedServer);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (ours, theirs) = (Coordinator::start().await, Coordinator::start().await);
    let (a, foreign) = (ours.site("a").await, theirs.site("a").await);
    let (cause, text) = cause_of(&ours, &foreign.identity, &a.ca_pem).await;
    assert_eq!(cause, Cause::ForeignCa, "{text}");

    // One that names itself after our CA, signed by a key of its own, does not get in either.
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let forged = Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
    let (cause, text) = cause_of(&ours, &forged, &a.ca_pem).await;
    assert!(cause.is_refusal(), "{cause:?} {text}");
}

#[tokio::test]
async fn a_revoked_site_is_out_at_once_and_after_a_restart() {
    let coordinator = Coordinator::start().await;
    let (a, b) = (coordinator.site("a").await, coordinator.site("b").await);
    next_task(&a.channel).await.unwrap();
    coordinator.operator.revoke(&site("a"), "test").await.unwrap();

    let open = next_task(&a.channel).await.unwrap_err();
    assert_eq!(from_status(&open), ErrorCode::Forbidden);
    assert!(open.message().contains("revoked"), "{open}");
    let (cause, text) = cause_of(&coordinator, &a.identity, &a.ca_pem).await;
    assert_eq!(cause, Cause::Revoked, "{text}");
    next_task(&b.channel).await.unwrap();

    let coordinator = coordinator.restart().await;
    let (cause, text) = cause_of(&coordinator, &a.identity, &a.ca_pem).await;
    assert_eq!(cause, Cause::Revoked, "{text}");
    let again = coordinator.site("a").await;
    next_task(&again.channel).await.unwrap();
}

#[tokio::test]
async fn only_the_newest_certificate_of_a_site_counts() {
    let coordinator = Coordinator::start().await;
    let old = coordinator.site("a").await;
    let new = coordinator.site("a").await;
    next_task(&new.channel).await.unwrap();
    let status = next_task(&old.channel).await.unwrap_err();
    assert!(status.message().contains("replaced by a newer one"), "{status}");
}

#[tokio::test]
async fn one_folder_has_one_coordinator() {
    let coordinator = Coordinator::start().await;
    let config = consilium_coordinator::CoordinatorConfig {
        data_dir: coordinator.dir.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
    };
    let (ready, _address) = tokio::sync::oneshot::channel();
    let second = consilium_coordinator::serve(config, ready, Default::default()).await.unwrap_err();
    assert!(second.to_string().contains("already running"), "{second}");
}
