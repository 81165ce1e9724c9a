//! TLS settings per host: the built-in and the system's roots, the user's own authorities, client certificates.
//! Files are read when a host is first reached by TLS, so that work without the network does not pay for them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Error;

/// Certificates for one host, beside the general ones.
#[derive(Debug, Clone, Default)]
pub struct HostCertificates {
    /// PEM files with authorities to trust for this host.
    pub authorities: Vec<PathBuf>,
    /// PEM files with the client's certificate chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Where certificates are found.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// The system's bundle of roots in PEM, usually `/etc/ssl/certs/ca-certificates.crt`; skipped if it is not there.
    pub system_roots: Option<PathBuf>,
    /// Directories like Docker's `certs.d`: below each, `HOST` or `HOST:PORT` with `*.crt` (authorities),
    /// `NAME.cert` and `NAME.key` (client certificate).
    pub certificate_directories: Vec<PathBuf>,
    /// Certificates by `host` or `host:port`.
    pub hosts: BTreeMap<String, HostCertificates>,
}

/// Makes and keeps TLS configurations.
pub(crate) struct Tls {
    settings: TlsSettings,
    roots: OnceLock<Arc<RootCertStore>>,
    general: OnceLock<Arc<ClientConfig>>,
    hosts: Mutex<HashMap<String, Arc<ClientConfig>>>,
}

impl Tls {
    pub fn new(settings: TlsSettings) -> Self {
        Self { settings, roots: OnceLock::new(), general: OnceLock::new(), hosts: Mutex::default() }
    }

    /// The configuration for `host:port`.
    pub fn config(&self, host: &str, port: u16) -> Result<Arc<ClientConfig>, Error> {
        let authority = format!("{host}:{port}");
        if let Some(config) = self.hosts.lock().expect("not poisoned").get(&authority) {
            return Ok(config.clone());
        }
        let own = self.certificates(host, &authority);
        let config = if own.authorities.is_empty() && own.client.is_none() {
            self.general.get_or_init(|| Arc::new(without_client(RootCertStore::clone(self.roots())))).clone()
        } else {
            Arc::new(self.special(&own)?)
        };
        self.hosts.lock().expect("not poisoned").insert(authority, config.clone());
        Ok(config)
    }

    /// PEM files of the authorities that are trusted for a host beyond the general ones.
    pub fn own_authorities(&self, host: &str, port: u16) -> Vec<PathBuf> {
        self.certificates(host, &format!("{host}:{port}")).authorities
    }

    fn certificates(&self, host: &str, authority: &str) -> HostCertificates {
        let mut all = HostCertificates::default();
        for name in [host, authority] {
            if let Some(more) = self.settings.hosts.get(name) {
                all.authorities.extend(more.authorities.iter().cloned());
                all.client = more.client.clone().or(all.client);
            }
            for directory in &self.settings.certificate_directories {
                scan(&directory.join(name), &mut all);
            }
        }
        all
    }

    fn roots(&self) -> &Arc<RootCertStore> {
        self.roots.get_or_init(|| {
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
            if let Some(path) = &self.settings.system_roots
                && let Ok(found) = certificates(path)
            {
                // A bundle may hold what rustls cannot parse (old versions, odd keys); the others still count.
                roots.add_parsable_certificates(found);
            }
            Arc::new(roots)
        })
    }

    fn special(&self, own: &HostCertificates) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::clone(self.roots());
        for path in &own.authorities {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unusable(path, e))?;
            }
        }
        let Some((chain, key)) = &own.client else { return Ok(without_client(roots)) };
        let mut config = builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(chain)?, private_key(key)?)
            .map_err(|e| unusable(chain, e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    // The provider is named, so that it does not matter which ones other crates of the process have linked.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
}

fn without_client(roots: RootCertStore) -> ClientConfig {
    let mut config = builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Adds what a directory in the manner of Docker's `certs.d` holds for one host.
fn scan(directory: &Path, all: &mut HostCertificates) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => all.authorities.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if key.exists() {
                    all.client = Some((path, key));
                }
            }
            _ => {}
        }
    }
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Configuration { what: format!("certificate file {}", path.display()), reason: reason.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = std::fs::read(path).map_err(|e| unusable(path, e))?;
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut bytes.as_slice()).collect();
    let found = found.map_err(|e| unusable(path, e))?;
    if found.is_empty() {
        return Err(unusable(path, "it has no certificate in PEM"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let bytes = std::fs::read(path).map_err(|e| unusable(path, e))?;
    rustls_pemfile::private_key(&mut bytes.as_slice())
        .map_err(|e| unusable(path, e))?
        .ok_or_else(|| unusable(path, "it has no private key in PEM"))
}
