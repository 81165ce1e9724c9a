//! The distribution protocol in its plainest form, natively, so that the service and the HTTP client meet a real
//! registry without any plugin: basic authentication, whole blobs in memory, no retries.

use ::http::{Method, Request, Response, header};
use async_trait::async_trait;
use base64::Engine as _;
use cooperage_solve::{Error, ErrorKind, Step};
use cooperage_store::{Descriptor, Digest, Store, media_types};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;

use crate::http::{Client, Hooks, HttpGrants};
use crate::registries::{BlobOutcome, RegistryBackend, Repository};

/// Speaks to registries for a store. Everything goes through the hooks that plugins have.
pub(crate) struct Distribution {
    pub store: Store,
    pub client: Client,
}

type Got = Response<Bytes>;

impl Distribution {
    async fn call(
        &self,
        at: &Repository,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Got, Error> {
        let grants = HttpGrants { registry: Some((at.host.clone(), at.plain_http)), ..Default::default() };
        let hooks = Hooks::new(self.client.clone(), grants);
        let scheme = if at.plain_http { "http" } else { "https" };
        let url = if path.contains("://") { path.to_owned() } else { format!("{scheme}://{}{path}", at.host) };
        let mut request = Request::builder().method(method).uri(url);
        if let Some(c) = &at.credential {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", c.username, c.password));
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        request = request.header(header::ACCEPT, format!("{}, {}", media_types::MANIFEST, media_types::INDEX));
        request = request.header(header::CONTENT_TYPE, kind.unwrap_or("application/octet-stream"));
        request = request.header(header::CONTENT_LENGTH, body.len());
        let request =
            request.body(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync()).unwrap();
        let unavailable = |e: String| Error::new(ErrorKind::Unavailable, e);
        let answer = hooks.send(request, None).await.map_err(|e| unavailable(e.to_string()))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| unavailable(e.to_string()))?.to_bytes();
        match parts.status.as_u16() {
            200..300 => Ok(Response::from_parts(parts, body)),
            401 => Err(Error::new(ErrorKind::Unauthenticated, "unauthorized")),
            404 => Err(Error::not_found("not found")),
            other => Err(unavailable(format!("{other}: {}", String::from_utf8_lossy(&body)))),
        }
    }

    fn text(got: &Got, name: &str) -> String {
        got.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    fn descriptor(got: &Got, size: usize) -> Descriptor {
        let digest = Self::text(got, "docker-content-digest").parse().unwrap();
        Descriptor::new(Self::text(got, "content-type"), digest, size as u64)
    }
}

#[async_trait]
impl RegistryBackend for Distribution {
    async fn resolve(&self, at: &Repository, reference: &str, _: &Step) -> Result<Descriptor, Error> {
        let got = self.call(at, Method::HEAD, &format!("/v2/{}/manifests/{reference}", at.name), None, vec![]).await?;
        Ok(Self::descriptor(&got, Self::text(&got, "content-length").parse().unwrap()))
    }

    async fn get_manifest(&self, at: &Repository, reference: &str, _: &Step) -> Result<Descriptor, Error> {
        let got = self.call(at, Method::GET, &format!("/v2/{}/manifests/{reference}", at.name), None, vec![]).await?;
        self.store.blobs().put(got.body())?;
        Ok(Self::descriptor(&got, got.body().len()))
    }

    async fn put_manifest(
        &self,
        at: &Repository,
        manifest: &Descriptor,
        tag: Option<&str>,
        _: &Step,
    ) -> Result<(), Error> {
        let bytes = self.store.blobs().read(&manifest.digest, 4 << 20)?;
        let reference = tag.map_or_else(|| manifest.digest.to_string(), str::to_owned);
        let path = format!("/v2/{}/manifests/{reference}", at.name);
        self.call(at, Method::PUT, &path, Some(&manifest.media_type), bytes).await.map(drop)
    }

    async fn has_blob(&self, at: &Repository, digest: &Digest, _: &Step) -> Result<bool, Error> {
        match self.call(at, Method::HEAD, &format!("/v2/{}/blobs/{digest}", at.name), None, vec![]).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn get_blob(&self, at: &Repository, blob: &Descriptor, _: &Step) -> Result<(), Error> {
        let got = self.call(at, Method::GET, &format!("/v2/{}/blobs/{}", at.name, blob.digest), None, vec![]).await?;
        self.store.blobs().put(got.body())?;
        Ok(())
    }

    async fn put_blob(
        &self,
        at: &Repository,
        blob: &Descriptor,
        mounts: &[String],
        step: &Step,
    ) -> Result<BlobOutcome, Error> {
        if self.has_blob(at, &blob.digest, step).await? {
            return Ok(BlobOutcome::Exists);
        }
        for from in mounts {
            let path = format!("/v2/{}/blobs/uploads/?mount={}&from={from}", at.name, blob.digest);
            if self.call(at, Method::POST, &path, None, vec![]).await?.status() == 201 {
                return Ok(BlobOutcome::Mounted);
            }
        }
        let bytes = self.store.blobs().read(&blob.digest, 1 << 30)?;
        let begun = self.call(at, Method::POST, &format!("/v2/{}/blobs/uploads/", at.name), None, vec![]).await?;
        let location = Self::text(&begun, "location");
        let separator = if location.contains('?') { '&' } else { '?' };
        self.call(at, Method::PUT, &format!("{location}{separator}digest={}", blob.digest), None, bytes).await?;
        Ok(BlobOutcome::Uploaded)
    }

    async fn tags(&self, at: &Repository, _: &Step) -> Result<Vec<String>, Error> {
        let got = self.call(at, Method::GET, &format!("/v2/{}/tags/list", at.name), None, vec![]).await?;
        let list: serde_json::Value = serde_json::from_slice(got.body()).unwrap();
        Ok(serde_json::from_value(list["tags"].clone()).unwrap_or_default())
    }

    async fn referrers(&self, _: &Repository, _: &Digest, _: &Step) -> Result<Vec<Descriptor>, Error> {
        Err(Error::new(ErrorKind::Unsupported, "not asked for in tests"))
    }

    async fn delete(&self, at: &Repository, reference: &str, _: &Step) -> Result<(), Error> {
        self.call(at, Method::DELETE, &format!("/v2/{}/manifests/{reference}", at.name), None, vec![]).await.map(drop)
    }

    async fn login(&self, at: &Repository, _: &Step) -> Result<(), Error> {
        self.call(at, Method::GET, "/v2/", None, vec![]).await.map(drop)
    }
}
