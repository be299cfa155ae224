//! The TLS end of the one port: TLS 1.3, client certificates of our own CA, optional in the handshake because a site that
//! enrols has none yet; revoked ones are refused there and then. The list of revoked certificates is swapped while
//! running: connections from then on see the new one, and open ones are checked at every call (`rpc::access`).

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use consilium_common::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::authority::Authority;
use super::{SERVER_CERT, SERVER_KEY, peer_of};
use crate::config::Paths;
use crate::error::{CoordinatorError, Result, While};

/// A handshake takes two round trips; a peer that needs longer is stuck or hostile.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Handshakes at once: each costs a few kB and a signature.
const MAX_HANDSHAKES: usize = 256;
/// Connections that have shaken hands and wait to be served.
const QUEUE: usize = 64;
/// Rest after `accept` failed (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the port serves with; its list of revoked certificates can be swapped.
pub(crate) struct TlsState {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    current: RwLock<Arc<ServerConfig>>,
}

impl TlsState {
    /// Reads the server's certificate and key and starts with these revocations.
    pub(crate) fn load(
        paths: &Paths,
        authority: &Authority,
        revoked: &[(Vec<u8>, Timestamp)],
        now: Timestamp,
    ) -> Result<Self> {
        let (cert, key) = (paths.identity.join(SERVER_CERT), paths.identity.join(SERVER_KEY));
        let bad = |why: String| CoordinatorError::internal(format!("reading {} and its key", cert.display()), why);
        let chain = CertificateDer::pem_file_iter(&cert).map_err(|e| bad(e.to_string()))?;
        let chain = chain.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| bad(e.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(|e| bad(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).map_err(|e| bad(e.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let list = authority.revocation_list(revoked, now)?;
        let first = server_config(&provider, &roots, &chain, &key, list)?;
        Ok(Self { provider, roots, chain, key, current: RwLock::new(first) })
    }

    /// Refuses these certificates from now on.
    pub(crate) fn set_revoked(
        &self,
        authority: &Authority,
        revoked: &[(Vec<u8>, Timestamp)],
        now: Timestamp,
    ) -> Result<()> {
        let list = authority.revocation_list(revoked, now)?;
        let next = server_config(&self.provider, &self.roots, &self.chain, &self.key, list)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    revoked: CertificateRevocationListDer<'static>,
) -> Result<Arc<ServerConfig>> {
    let bad = |why: String| CoordinatorError::internal("preparing TLS", why);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .with_crls([revoked])
        .only_check_end_entity_revocation()
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad(e.to_string()))?
        .with_client_cert_verifier(Arc::new(Explaining { inner: verifier }))
        .with_single_cert(chain.to_vec(), key.clone_key())
        .map_err(|e| bad(e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the look at the list of revoked certificates.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The usual verifier; what it refuses is written into the log with the name that the certificate claims.
#[derive(Debug)]
struct Explaining {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Explaining {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    /// None: a client would hold back a certificate of another CA, and nobody would learn why it is not let in.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.inner.verify_client_cert(end_entity, intermediates, now).inspect_err(|error| {
            let claims = peer_of(end_entity).map_or_else(|why| format!("nobody: it {why}"), |peer| peer.to_string());
            warn!(%claims, reason = %refusal(error), "client certificate refused");
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn refusal(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => "the certificate was revoked here".into(),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the certificate was issued by another CA; the site must enrol with this coordinator".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate has expired; invite the site again".into()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the certificate is not valid yet; a clock is wrong".into(),
        other => other.to_string(),
    }
}

/// A connection that has shaken hands.
pub(crate) type Connection = TlsStream<TcpStream>;

/// Accepts connections until cancelled; those that complete the handshake come out of the channel.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Arc<TlsState>,
    stop: CancellationToken,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            // The semaphore is never closed, so a permit always comes.
            let Ok(permit) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (acceptor, ready) = (tls.acceptor(), ready.clone());
                    tokio::spawn(async move {
                        if let Some(connection) = shake_hands(acceptor, stream, peer).await {
                            let _ = ready.send(Ok(connection)).await;
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    connections
}

async fn shake_hands(acceptor: TlsAcceptor, stream: TcpStream, peer: std::net::SocketAddr) -> Option<Connection> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            info!(%peer, %error, "TLS handshake refused");
            None
        }
        Err(_) => {
            info!(%peer, timeout_s = HANDSHAKE_TIMEOUT.as_secs(), "TLS handshake did not complete");
            None
        }
    }
}

/// Binds the port.
pub(crate) async fn bind(address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .doing(|| format!("listening on {address}; is the port taken? (see `listen` in coordinator.toml)"))
}
