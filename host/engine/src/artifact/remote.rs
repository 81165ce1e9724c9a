//! Plugins in registries: pull and push with `oci-client`. Checks digests and sizes of what comes; caches nothing.

use std::sync::{Arc, Once};
use std::time::Duration;

use cooperage_store::Digest;
use futures::StreamExt as _;
use hyper::body::Bytes;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;

use super::Error;
use super::pack::{MANIFEST_TYPE, Packed};
use super::reference::RegistryReference;
use crate::credentials::Credentials;
use crate::http;
use crate::http::address::{Reach, is_loopback_host};

/// A manifest is one small answer; a registry that takes longer is of no use.
const MANIFEST_TIME: Duration = Duration::from_secs(60);

/// Reaches registries for plugins the way the user's other tools do.
#[derive(Clone)]
pub struct Remote {
    credentials: Option<Arc<Credentials>>,
    http: http::Client,
    plain_http: Vec<String>,
}

impl Remote {
    /// Uses the credentials, and of `http` the proxies and authorities. `plain_http` lists hosts (`host` or
    /// `host:port`) that are reached without TLS, as this machine is. Those that turn out to speak TLS get it.
    pub fn new(http: http::Client, credentials: Option<Arc<Credentials>>, plain_http: Vec<String>) -> Self {
        Self { credentials, http, plain_http }
    }

    /// The manifest and its digest. Its size is checked after it has come, because `oci-client` reads it in one piece.
    pub async fn manifest(&self, reference: &RegistryReference) -> Result<(Bytes, Digest), Error> {
        let result = self.manifest_once(reference).await;
        if self.wants_tls(reference, &result).await { self.manifest_once(reference).await } else { result }
    }

    async fn manifest_once(&self, reference: &RegistryReference) -> Result<(Bytes, Digest), Error> {
        let (client, auth) = self.client(reference).await?;
        let image = image(reference);
        let answer =
            tokio::time::timeout(MANIFEST_TIME, client.pull_manifest_raw(&image, &auth, &[MANIFEST_TYPE])).await;
        let late = || failed(reference, &format!("no manifest within {MANIFEST_TIME:?}"));
        let (bytes, _) = answer.map_err(|_| late())?.map_err(|e| explain(reference, e))?;
        let digest = Digest::of(&bytes);
        match &reference.digest {
            Some(expected) => Error::verify(|| format!("the manifest of {reference}"), expected, &bytes)?,
            None => tracing::debug!("{reference} is {digest}"),
        }
        Ok((bytes, digest))
    }

    /// The bytes of a blob; stops as soon as more than `size` bytes come. The caller checks the digest.
    pub(super) async fn blob(&self, reference: &RegistryReference, digest: &Digest, size: u64) -> Result<Bytes, Error> {
        let (client, auth) = self.client(reference).await?;
        client.store_auth_if_needed(image(reference).resolve_registry(), &auth).await;
        let descriptor = OciDescriptor {
            digest: digest.to_string(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let mut stream =
            client.pull_blob_stream(&image(reference), &descriptor).await.map_err(|e| explain(reference, e))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                // All bytes are there, and wrong: the caller finds that out, and says it better.
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<DigestError>()) => break,
                Err(error) => return Err(failed(reference, &error.to_string())),
            }
            if bytes.len() as u64 > size {
                let what = format!("the component of {reference}");
                return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: size });
            }
        }
        Ok(bytes.into())
    }

    /// Pushes a packed plugin under the tag of `reference` and gives the digest of the manifest.
    pub async fn push(&self, reference: &RegistryReference, packed: &Packed) -> Result<Digest, Error> {
        let config = (Bytes::from(packed.config.clone()), packed.config_digest);
        let blobs = [(packed.component.clone(), packed.component_digest), config];
        self.put(reference, &blobs, &packed.manifest).await?;
        Ok(packed.manifest_digest)
    }

    /// Puts blobs, where they are missing, and then the manifest that names them under the tag of `reference`.
    pub(super) async fn put(
        &self,
        reference: &RegistryReference,
        blobs: &[(Bytes, Digest)],
        manifest: &[u8],
    ) -> Result<(), Error> {
        let result = self.put_once(reference, blobs, manifest).await;
        if self.wants_tls(reference, &result).await { self.put_once(reference, blobs, manifest).await } else { result }
    }

    async fn put_once(
        &self,
        reference: &RegistryReference,
        blobs: &[(Bytes, Digest)],
        manifest: &[u8],
    ) -> Result<(), Error> {
        let (client, auth) = self.client(reference).await?;
        let image = image(&RegistryReference { digest: None, ..reference.clone() });
        client.auth(&image, &auth, oci_client::RegistryOperation::Push).await.map_err(|e| explain(reference, e))?;
        for (bytes, digest) in blobs {
            let there = client.blob_exists(&image, &digest.to_string()).await.map_err(|e| explain(reference, e))?;
            if !there {
                let pushed = client.push_blob(&image, bytes.clone(), &digest.to_string()).await;
                pushed.map_err(|e| explain(reference, e))?;
            }
        }
        let kind = MANIFEST_TYPE.parse().expect("a media type is a header value");
        client.push_manifest_raw(&image, manifest.to_vec(), kind).await.map_err(|e| explain(reference, e))?;
        Ok(())
    }

    /// Digests of the manifests that refer to the artifact with the digest of `reference`, of a type that begins so.
    pub(super) async fn referrers(&self, reference: &RegistryReference, kind: &str) -> Result<Vec<Digest>, Error> {
        let (client, auth) = self.client(reference).await?;
        let image = image(reference);
        client.store_auth_if_needed(image.resolve_registry(), &auth).await;
        let asked = tokio::time::timeout(MANIFEST_TIME, client.pull_referrers(&image, None)).await;
        let late = || failed(reference, &format!("no list of referrers within {MANIFEST_TIME:?}"));
        let index = asked.map_err(|_| late())?.map_err(|e| explain(reference, e))?;
        let wanted =
            index.manifests.into_iter().filter(|one| one.artifact_type.as_deref().is_some_and(|t| t.starts_with(kind)));
        Ok(wanted.filter_map(|one| one.digest.parse().ok()).collect())
    }

    /// Whether a failure came of asking a registry without TLS that speaks it.
    async fn wants_tls<T>(&self, reference: &RegistryReference, result: &Result<T, Error>) -> bool {
        let odd = matches!(result, Err(Error::Registry { .. }));
        let Some(origin) = http::Origin::of_authority(false, &reference.host) else { return false };
        odd && self.is_plain(&reference.host)
            && self.http.ask_for_tls(&origin, Reach::NAMED_BY_USER).await
            && !self.is_plain(&reference.host)
    }

    /// Whether a registry is reached without TLS.
    fn is_plain(&self, host: &str) -> bool {
        let (name, port) = name_and_port(host);
        let plain = self.plain_http.iter().any(|h| h == host)
            || is_loopback_host(&name) && self.authorities(&name, port).is_empty();
        plain && !self.http.is_only_tls(host)
    }

    async fn client(&self, reference: &RegistryReference) -> Result<(oci_client::Client, RegistryAuth), Error> {
        install_provider();
        let (name, port) = name_and_port(&reference.host);
        let plain = self.is_plain(&reference.host);
        let proxies = &self.http.settings().proxies;
        let set = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: self.certificates(&name, port)?,
            read_timeout: Some(self.http.settings().idle_timeout),
            connect_timeout: Some(self.http.settings().connect_timeout),
            user_agent: concat!("cooperage/", env!("CARGO_PKG_VERSION")),
            https_proxy: set(&proxies.https),
            http_proxy: set(&proxies.http),
            no_proxy: set(&proxies.no_proxy),
            platform_resolver: None,
            ..Default::default()
        };
        let client = oci_client::Client::try_from(config).map_err(|e| explain(reference, e))?;
        Ok((client, self.auth(reference).await?))
    }

    async fn auth(&self, reference: &RegistryReference) -> Result<RegistryAuth, Error> {
        let Some(credentials) = self.credentials.clone() else { return Ok(RegistryAuth::Anonymous) };
        let (host, repository) = (reference.host.clone(), reference.repository.clone());
        // A helper is a process that may ask the user for something.
        let found = tokio::task::spawn_blocking(move || credentials.get(&host, Some(&repository)));
        match found.await.map_err(|e| failed(reference, &e.to_string()))?? {
            None => Ok(RegistryAuth::Anonymous),
            Some(credential) if credential.identity_token => Err(Error::Unauthenticated {
                registry: reference.host.clone(),
                reference: reference.to_string(),
                reason: "the stored login is an identity token, which cannot be used for plugins yet; use a user and a password".into(),
            }),
            Some(credential) => Ok(RegistryAuth::Basic(credential.username, credential.password)),
        }
    }

    fn authorities(&self, host: &str, port: u16) -> Vec<std::path::PathBuf> {
        self.http.own_authorities(host, port)
    }

    fn certificates(&self, host: &str, port: u16) -> Result<Vec<Certificate>, Error> {
        let mut found = Vec::new();
        for path in self.authorities(host, port) {
            let bytes = std::fs::read(&path).map_err(Error::file(&path))?;
            for certificate in rustls_pemfile::certs(&mut bytes.as_slice()) {
                let data = certificate.map_err(Error::file(&path))?.to_vec();
                found.push(Certificate { encoding: CertificateEncoding::Der, data });
            }
        }
        Ok(found)
    }
}

fn name_and_port(host: &str) -> (String, u16) {
    let authority = host.parse::<::http::uri::Authority>().ok();
    let name = authority.as_ref().map_or(host, |authority| authority.host()).to_owned();
    (name, authority.and_then(|authority| authority.port_u16()).unwrap_or(443))
}

/// `oci-client` is built without a TLS provider; this names ours, once. Another one installed before stays.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn image(reference: &RegistryReference) -> oci_client::Reference {
    let (host, repository) = (reference.host.clone(), reference.repository.clone());
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => oci_client::Reference::with_digest(host, repository, digest.to_string()),
        (None, tag) => {
            oci_client::Reference::with_tag(host, repository, tag.clone().unwrap_or_else(|| "latest".into()))
        }
    }
}

fn failed(reference: &RegistryReference, reason: &str) -> Error {
    Error::Registry { reference: reference.to_string(), reason: reason.to_owned() }
}

fn explain(reference: &RegistryReference, error: OciDistributionError) -> Error {
    let unauthenticated = |reason: String| Error::Unauthenticated {
        registry: reference.host.clone(),
        reference: reference.to_string(),
        reason,
    };
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => Error::NotFound(format!("{reference} does not exist")),
        OciDistributionError::UnauthorizedError { .. } => unauthenticated("not authorized".into()),
        OciDistributionError::AuthenticationFailure(reason) => unauthenticated(reason),
        OciDistributionError::RequestError(error) if error.status().is_some_and(|s| s == 401 || s == 403) => {
            unauthenticated(format!("it answers {}", error.status().map_or(0, |s| s.as_u16())))
        }
        OciDistributionError::ServerError { code: code @ (401 | 403), .. } => {
            unauthenticated(format!("it answers {code}"))
        }
        OciDistributionError::ServerError { code: 404, .. } => Error::NotFound(format!("{reference} does not exist")),
        OciDistributionError::RegistryError { envelope, .. } => {
            let codes: Vec<_> = envelope.errors.iter().map(|e| &e.code).collect();
            let is = |wanted: &[OciErrorCode]| codes.iter().any(|code| wanted.contains(code));
            if is(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]) {
                Error::NotFound(format!("{reference} does not exist"))
            } else if is(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                unauthenticated(envelope.to_string())
            } else {
                failed(reference, &envelope.to_string())
            }
        }
        other => {
            let mut reason = other.to_string();
            let mut cause = std::error::Error::source(&other);
            while let Some(inner) = cause {
                reason.push_str(&format!(": {inner}"));
                cause = inner.source();
            }
            // As rustls names it; its error lies too deep in others to be asked for its kind.
            if reason.contains("UnknownIssuer") {
                return Error::Untrusted { registry: reference.host.clone(), reference: reference.to_string() };
            }
            failed(reference, &reason)
        }
    }
}
