//! What TLS needs of a server connection: which certificates are trusted, which is shown. For both server engines.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::EngineError;
use crate::config::ServerConnection;

/// The client's side of TLS: the system's roots, or any certificate with `verify: false`; a client certificate where the
/// profile names one.
///
/// # Errors
/// No usable root, or a certificate file that cannot be read.
pub(super) fn client_config(server: &ServerConnection) -> Result<ClientConfig, EngineError> {
    let failed = |reason: String| EngineError::Unreachable {
        address: format!("{}:{}", server.host, server.port),
        reason: format!("TLS: {reason}"),
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let builder = if server.verify {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(failed("this system has no root certificates".into()));
        }
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    let Some(certificate) = &server.client_cert else { return Ok(builder.with_no_client_auth()) };
    let key = server.client_cert_key.as_ref().unwrap_or(certificate);
    let read = |path: &Path| fs_err::read(path).map_err(|error| failed(error.to_string()));
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(format!("`{}`: {error}", certificate.display())))?;
    let key =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| failed(format!("`{}`: {error}", key.display())))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| failed(error.to_string()))
}

/// What a failed handshake means.
pub(super) fn explained(text: &str) -> String {
    let text = text.trim_start_matches("TLS: ");
    if text.contains("InvalidContentType") {
        return "TLS: the server does not speak TLS on this port".into();
    }
    format!("TLS: {text}")
}

/// Takes every certificate, as `verify: false` asks for; the handshake's signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
