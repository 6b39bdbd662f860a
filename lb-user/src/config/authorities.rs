//! Files of certificate authorities: read when a configuration is loaded.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{
    MAX_FILE_BYTES,
    host::Spans,
    model::{Authorities, Check, CheckKind, Config},
    report::Problem,
};

/// Reads the files that checks name; notes what is wrong with them.
pub(super) fn read(config: &mut Config, spans: &Spans, problems: &mut Vec<Problem>) {
    let mut known = BTreeMap::new();
    for (path, span) in &spans.authorities {
        match certificates(path) {
            Ok(certificates) => drop(known.insert(path.clone(), certificates)),
            Err(what) => problems.push(
                Problem::at(span.clone(), format!("{} {what}", path.display()))
                    .expected("the certificates of authorities in PEM")
                    .help("on Debian those of the public ones are in /etc/ssl/certs/ca-certificates.crt"),
            ),
        }
    }
    for service in &mut config.services {
        let checks = service.backends.iter_mut().filter_map(|backend| backend.check.as_mut());
        checks.chain(&mut service.check).for_each(|check| fill(check, &known));
    }
}

fn fill(check: &mut Check, known: &BTreeMap<std::path::PathBuf, Vec<Vec<u8>>>) {
    let CheckKind::Http(http) = &mut check.kind else { return };
    let Some(authorities) = http.tls.as_mut().and_then(|tls| tls.authorities.as_mut()) else { return };
    if let Authorities::File(path) = authorities
        && let Some(certificates) = known.get(path)
    {
        *authorities = Authorities::Known(certificates.clone());
    }
}

/// The certificates in a file, in DER, or what is wrong with it.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        certificates.push(certificate.map_err(|error| format!("is not PEM: {error}"))?);
    }
    // What the operating system trusts may hold one that is not understood; one that is will do.
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err("holds no certificate that is understood".to_owned());
    }
    Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
}
