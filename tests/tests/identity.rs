//! Who may speak: a revoked site and a site of a foreign CA are refused, and both sides say so in words.

use consilium_tests::slides::data_folder;
use consilium_tests::{Coordinator, Site, wait_until};

const REFUSED: i32 = 77;

#[test]
fn a_revoked_site_is_refused_and_both_sides_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let data = folder.path().join("data");
    data_folder(&data, 1, &["pool", "test"]);
    let site = Site::new(folder.path(), "alpha", &coordinator.address, &data);
    assert!(site.enrol(&coordinator.invite("alpha")).status.success());
    coordinator.operator(&["site", "revoke", "alpha", "--reason", "laptop stolen"]);
    let mut daemon = site.start();
    assert_eq!(daemon.exit_code(), REFUSED, "{}", daemon.log());
    assert!(daemon.log().contains("revoked"), "{}", daemon.log());
    wait_until("the coordinator's word about it", || coordinator.log().to_lowercase().contains("revoked"));
}

#[test]
fn a_site_of_a_foreign_ca_is_refused_and_both_sides_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let home = Coordinator::start(&folder.path().join("home"));
    let foreign = Coordinator::start(&folder.path().join("foreign"));
    let data = folder.path().join("data");
    data_folder(&data, 1, &["pool", "test"]);
    // Enrolled abroad, then pointed at the home coordinator with the home CA as its trust: the handshake must fail on
    // the coordinator's side.
    let site = Site::new(folder.path(), "alpha", &foreign.address, &data);
    assert!(site.enrol(&foreign.invite("alpha")).status.success());
    let text = std::fs::read_to_string(&site.config).unwrap().replace(&foreign.address, &home.address);
    std::fs::write(&site.config, text).unwrap();
    std::fs::copy(home.data_dir.join("identity/ca.pem"), site.state().join("identity/ca.pem")).unwrap();
    let mut daemon = site.start();
    assert_eq!(daemon.exit_code(), REFUSED, "{}", daemon.log());
    assert!(daemon.log().contains("does not know the authority"), "{}", daemon.log());
    wait_until("the coordinator's word about it", || {
        home.log().contains("UnknownIssuer") || home.log().contains("unknown authority")
    });
}

#[test]
fn an_invitation_works_once_and_only_with_the_right_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(folder.path());
    let data = folder.path().join("data");
    data_folder(&data, 1, &["pool", "test"]);
    let invitation = coordinator.invite("alpha");
    let first = Site::new(&folder.path().join("first"), "alpha", &coordinator.address, &data);
    let wrong = first.enrol(&(invitation.0.clone(), "00".repeat(32)));
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("fingerprint"));
    assert!(first.enrol(&invitation).status.success(), "a failed attempt with a wrong pin does not use the token up");
    let thief = Site::new(&folder.path().join("second"), "alpha", &coordinator.address, &data);
    let again = thief.enrol(&invitation);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("used"), "{}", String::from_utf8_lossy(&again.stderr));
}
