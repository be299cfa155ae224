//! The client's end of the one TLS connection: mutual TLS 1.3 to the coordinator, as a tonic channel.
//!
//! The server is trusted either through the CA certificate that enrolment brought, or, at enrolment itself, through the
//! fingerprint of that CA which the operator handed over out of band. Nothing else is trusted, no system root either.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A silent peer is noticed after interval + timeout, however long a call may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom to believe.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Servers whose certificate was issued by this CA (PEM).
    Ca(String),
    /// Servers that send a CA certificate with this SHA-256 (hexadecimal) and a certificate issued by it.
    Fingerprint(String),
}

/// The certificate and key (PEM) that the client shows.
#[derive(Clone)]
pub struct Identity {
    /// Certificate, leaf first.
    pub certificate_pem: String,
    /// Private key.
    pub key_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Why no channel could be had.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The address is not a URL of the form https://host:port.
    #[error("`{0}` is not an address of a coordinator; write https://host:port")]
    Address(String),
    /// A certificate, key or fingerprint cannot be used.
    #[error("{what} cannot be used: {why}")]
    Credentials {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The connection failed.
    #[error("{}", explain(.0))]
    Transport(#[from] tonic::transport::Error),
}

/// SHA-256 of a DER certificate, hexadecimal: what people compare.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connects to `https://host:port`. The channel reconnects by itself when the connection breaks later.
pub async fn connect(address: &str, identity: Option<&Identity>, trust: &Trust) -> Result<Channel, ChannelError> {
    let bad_address = || ChannelError::Address(address.to_owned());
    let uri: Uri = address.trim_end_matches('/').parse().map_err(|_| bad_address())?;
    let (Some("https"), Some(host), Some(port)) = (uri.scheme_str(), uri.host(), uri.port_u16()) else {
        return Err(bad_address());
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| bad_address())?;
    let tls = TlsConnector::from(Arc::new(client_config(identity, trust)?));
    // The scheme is http for tonic because TLS is ours: it must not wrap the stream again.
    let authority = uri.authority().ok_or_else(bad_address)?;
    let plain = Uri::builder().scheme("http").authority(authority.clone()).path_and_query("/").build();
    let endpoint = Endpoint::from(plain.map_err(|_| bad_address())?)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let connector = tower::service_fn(move |_: Uri| {
        let (tls, name, host) = (tls.clone(), name.clone(), host.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn client_config(identity: Option<&Identity>, trust: &Trust) -> Result<ClientConfig, ChannelError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let bad = |what: &'static str, why: String| ChannelError::Credentials { what, why };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad("TLS 1.3", e.to_string()))?;
    let builder = match trust {
        Trust::Ca(pem) => builder.with_root_certificates(roots(pem)?),
        Trust::Fingerprint(hex) => {
            let hex = hex.replace(':', "").to_ascii_lowercase();
            if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad("the CA fingerprint", "it must be 64 hexadecimal digits (SHA-256)".into()));
            }
            let verifier = PinnedCa { fingerprint: hex, provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).collect();
            let chain = chain.map_err(|e| bad("the client certificate", e.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
                .map_err(|e| bad("the client key", e.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| bad("the client certificate", e.to_string()))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(pem: &str) -> Result<RootCertStore, ChannelError> {
    let bad = |why: String| ChannelError::Credentials { what: "the CA certificate", why };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate.map_err(|e| bad(e.to_string()))?).map_err(|e| bad(e.to_string()))?;
    }
    if store.is_empty() { Err(bad("it holds no certificate".into())) } else { Ok(store) }
}

/// Accepts a server whose chain contains the CA of this fingerprint, and verifies the chain against that CA.
#[derive(Debug)]
struct PinnedCa {
    fingerprint: String,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|certificate| fingerprint(certificate) == self.fingerprint);
        let pinned = pinned.ok_or_else(|| {
            rustls::Error::General("the coordinator's CA does not have the pinned fingerprint".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not used".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a TLS or transport failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The coordinator refuses this certificate for good: revoked.
    Revoked,
    /// The coordinator does not know the CA of this certificate.
    ForeignCa,
    /// The certificate has expired.
    Expired,
    /// This side does not believe the coordinator's certificate.
    UntrustedServer,
    /// Nobody answers there, or the connection broke: try again.
    Unreachable,
}

impl Cause {
    /// True where trying again cannot help until a person acts.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Revoked | Self::ForeignCa | Self::Expired)
    }
}

/// Finds out what a transport error, or a status that carries one, means.
pub fn cause(error: &(dyn StdError + 'static)) -> Cause {
    let text = chain(error);
    let has = |word: &str| text.contains(word);
    if has("CertificateRevoked") {
        Cause::Revoked
    } else if has("fatal alert: UnknownCA") || has("fatal alert: BadCertificate") || has("fatal alert: DecryptError") {
        Cause::ForeignCa
    } else if has("fatal alert: CertificateExpired") {
        Cause::Expired
    } else if has("invalid peer certificate") || has("pinned fingerprint") {
        Cause::UntrustedServer
    } else {
        Cause::Unreachable
    }
}

/// One sentence with the next step for a transport error, or a status that carries one.
pub fn explain(error: &(dyn StdError + 'static)) -> String {
    match cause(error) {
        Cause::Revoked => "the coordinator has revoked this certificate; ask the central group for a new invitation".into(),
        Cause::ForeignCa => {
            "the coordinator does not know the authority that issued this certificate; enrol with this coordinator first"
                .into()
        }
        Cause::Expired => "this certificate has expired; ask the central group for a new invitation and enrol again".into(),
        Cause::UntrustedServer => format!(
            "the coordinator's certificate is not to be trusted ({}); compare the CA fingerprint with the central group",
            root(error)
        ),
        Cause::Unreachable => format!(
            "the coordinator cannot be reached ({}); check its address, that it runs, and the firewall on the way",
            root(error)
        ),
    }
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(source) = current {
        text.push_str(": ");
        text.push_str(&source.to_string());
        current = source.source();
    }
    text
}

fn root(error: &(dyn StdError + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}
