//! TLS for checks.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, DnsName, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ProbeError, ProbeStage, error::from_io};
use crate::config::{Authorities, Tls};

/// What TLS sessions of a check are made with.
pub(super) fn connector(tls: &Tls) -> Result<TlsConnector, ProbeError> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |error: rustls::Error| ProbeError::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let config = match &tls.authorities {
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Some(Authorities::Known(certificates)) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(
                certificates.iter().map(|der| CertificateDer::from(der.as_slice())),
            );
            builder.with_root_certificates(store).with_no_client_auth()
        }
        // Invariant: loading a configuration has read it.
        Some(Authorities::File(path)) => {
            return Err(ProbeError::Tls(format!("{} was not read", path.display())));
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name to ask for, and to compare certificates with: the configured one, the host of the request, or the address.
pub(super) fn server_name(tls: &Tls, host: Option<&str>, address: IpAddr) -> ServerName<'static> {
    let host = host.map(without_port);
    let name = tls.name.as_deref().or(host).and_then(|name| DnsName::try_from(name.to_owned()).ok());
    match (name, host.and_then(|host| host.parse::<IpAddr>().ok())) {
        (Some(name), _) => ServerName::DnsName(name),
        (None, other) => ServerName::IpAddress(other.unwrap_or(address).into()),
    }
}

/// The host of a Host header.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').filter(|(name, _)| !name.contains(':')).map_or(host, |(name, _)| name),
    }
}

/// Makes a session on a connection.
pub(super) async fn session(
    connector: &TlsConnector,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, ProbeError> {
    connector.connect(name, stream).await.map_err(|error| from_tls(&error))
}

/// What goes wrong inside TLS comes as an error of input and output.
fn from_tls(error: &io::Error) -> ProbeError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => ProbeError::Tls(error.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            ProbeError::Tls("the connection was closed before there was a session".to_owned())
        }
        None => from_io(ProbeStage::Handshaking, error),
    }
}

/// Takes any certificate. Whether a server works is asked here, not who it is: it is asked at its own address, and its
/// certificate is one for the service's name or signed by itself.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_comes_from_the_configuration_the_host_or_the_address() {
        let address = "192.0.2.9".parse().unwrap();
        let named = Tls { name: Some("sni.example".to_owned()), authorities: None };
        let cases = [
            (&named, Some("www.example:8443"), "sni.example"),
            (&Tls::default(), Some("www.example:8443"), "www.example"),
            (&Tls::default(), Some("www.example"), "www.example"),
            (&Tls::default(), Some("192.0.2.4:8443"), "192.0.2.4"),
            (&Tls::default(), Some("[2001:db8::4]:8443"), "2001:db8::4"),
            (&Tls::default(), None, "192.0.2.9"),
        ];
        for (tls, host, expected) in cases {
            assert_eq!(server_name(tls, host, address).to_str(), expected, "{host:?}");
        }
    }
}
