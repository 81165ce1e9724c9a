//! The service and the HTTP client against a real registry, with the protocol spoken natively instead of by a plugin.

use super::*;
use crate::credentials::{Credential, Credentials};
use crate::http::{Client, Settings, TlsSettings};
use crate::testing::certificates::Certificates;
use crate::testing::distribution::Distribution;
use crate::testing::registry::{PASSWORD, Registry, USER};

struct Real(Arc<Distribution>);

#[async_trait]
impl Backends for Real {
    async fn backend(&self, _: &str) -> Result<Arc<dyn RegistryBackend>, Error> {
        Ok(self.0.clone())
    }
}

fn machine(
    directory: &std::path::Path,
    settings: Settings,
    credentials: Option<Credentials>,
) -> (Store, RegistryService) {
    let store = Store::open(&directory.join("store")).unwrap();
    let certificate_directories = settings.tls.certificate_directories.clone();
    let backend = Distribution { store: store.clone(), client: Client::new(settings).unwrap() };
    let service = RegistryService::new(ServiceOptions {
        store: store.clone(),
        routing: Routing { certificate_directories, ..Default::default() },
        backends: Arc::new(Real(Arc::new(backend))),
        credentials: credentials.map(Arc::new),
        reporter: Reporter::silent(),
        policy: PullPolicy::Missing,
        parallel: PARALLEL_TRANSFERS,
    });
    (store, service)
}

#[tokio::test]
async fn there_and_back() {
    let Some(registry) = Registry::start(false, None) else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let step = Reporter::silent().step(None, "test");
    let (store, author) = machine(one.path(), Settings::default(), None);
    let large = "x".repeat(3 << 20);
    let images = vec![image(&store, "amd64", &["base", &large]), image(&store, "arm64", &["arm"])];
    let top = index(&store, images);
    let name = format!("{}/team/app:1", registry.host());
    let pushed = author.push(&top.digest.to_string(), &name, &step).await.unwrap();
    assert_eq!(Registries::resolve(&author, &name).await.unwrap().digest, pushed.digest);
    assert_eq!(author.tags(&name, &step).await.unwrap(), ["1"]);

    let (store, user) = machine(two.path(), Settings::default(), None);
    let base = ImageSource::resolve(&user, &name, &amd64()).await.unwrap();
    let other = format!("{}/team/copy:1", registry.host());
    user.push(&base.manifest.digest.to_string(), &other, &step).await.unwrap();
    assert_eq!(store.blobs().size(&base.layers[1].digest).unwrap(), None, "the registry mounted it");
    user.fetch_layer(&base, &base.layers[1]).await.unwrap();
    assert_eq!(store.blobs().size(&base.layers[1].digest).unwrap(), Some(3 << 20));
    user.pull(&other, None, &step).await.unwrap();
    user.delete(&format!("{}/team/copy@{}", registry.host(), base.manifest.digest), &step).await.unwrap();
    assert_eq!(Registries::resolve(&user, &other).await.unwrap_err().kind, ErrorKind::NotFound);
    drop(registry);
    ImageSource::resolve(&user, &name, &amd64()).await.unwrap();
}

#[tokio::test]
async fn with_a_login_and_an_own_authority() {
    let certificates = Certificates::make();
    let Some(registry) = Registry::start(true, Some(&certificates)) else { return };
    let directory = tempfile::tempdir().unwrap();
    let step = Reporter::silent().step(None, "test");
    let tls = TlsSettings {
        certificate_directories: vec![certificates.certs_d(&registry.host(), false)],
        ..Default::default()
    };
    let settings = Settings { tls, ..Default::default() };
    let name = format!("{}/team/app:1", registry.host());
    let (store, stranger) = machine(directory.path(), settings.clone(), None);
    let built = image(&store, "amd64", &["mine"]);
    let error = stranger.push(&built.digest.to_string(), &name, &step).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert_eq!(error.hint, Some(format!("log in with `coop registry login {}`", registry.host())));

    let login = |password: &str| Credential { username: USER.into(), password: password.into(), identity_token: false };
    assert!(stranger.login(&registry.host(), login("wrong"), &step).await.is_err());
    stranger.login(&registry.host(), login(PASSWORD), &step).await.unwrap();
    let credentials = Credentials::new(directory.path().join("config.json"), Vec::new());
    credentials.store(&registry.host(), &login(PASSWORD)).unwrap();
    let (_, known) = machine(directory.path(), settings, Some(credentials));
    known.push(&built.digest.to_string(), &name, &step).await.unwrap();
    assert_eq!(Registries::resolve(&known, &name).await.unwrap().digest, built.digest);
}
