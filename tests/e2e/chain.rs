//! Everything a flow calls, in one run: code is fetched, tested, built, pushed, announced, delivered and deployed, each
//! step by a component of its own and against a real server. And components of strangers that work together.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, TOKEN, WEB};
use crate::support::engine::{DOCKER, Engine};
use crate::support::ftp::{Ftp, Protection, VSFTPD};
use crate::support::git::{Git, NEEDS as GIT};
use crate::support::registry::Registry;
use crate::support::signing::Key;
use crate::support::web::{NEEDS as NGINX, Web};
use crate::support::{Machine, ROOT, have};

/// The servers of one flow.
struct Town {
    machine: Machine,
    git: Git,
    registry: Registry,
    web: Web,
    ftp: Ftp,
    cluster: Cluster,
}

impl Town {
    fn start() -> Option<Self> {
        let needs = [&GIT[..], &NGINX, &VSFTPD, &["docker-registry", ROOT]].concat();
        if !have(&needs) {
            return None;
        }
        let machine = Machine::new();
        machine.base();
        machine.write("token", TOKEN);
        let git = Git::start(&machine, "served", false);
        let dockerfile = b"FROM scratch\nCOPY page /page\nLABEL page=web\n";
        git.commit("web.git", &[("Dockerfile", dockerfile), ("page", b"hello\n"), ("docs/read.me", b"read me\n")]);
        let registry = Registry::start(&machine);
        let web = Web::start(&machine);
        let ftp = Ftp::vsftpd(&machine, Protection::None);
        Some(Self { git, registry, web, ftp, cluster: Cluster::start(), machine })
    }

    /// The whole way of a commit, with the builder that is named.
    fn flow(&self, builder: &str, more: &str) -> String {
        let Self { git, registry, web, ftp, cluster, .. } = self;
        format!(
            "version: 1
images:
  shop/web:
    tags:
      '1':
        flow:
          source: {{ uses: git, with: {{ url: '{source}', ref: main }} }}
          test:
            uses: script
            in: source
            with: {{ image: 'base:1', run: 'test \"$(cat page)\" = hello; echo 7 > score', outputs: {{ score: score }} }}
          image: {{ uses: {builder}, in: source, needs: [test]{more} }}
          push: {{ uses: push, with: {{ image: '${{{{ steps.image.image }}}}', to: '{image}' }} }}
          announce:
            uses: http
            with:
              url: '{web}/up/notice.json'
              method: PUT
              json: {{ digest: '${{{{ steps.push.digest }}}}', score: '${{{{ steps.test.score }}}}' }}
              expect: [201, 204]
          deliver:
            uses: ftp
            in: source
            needs: [push]
            with:
              url: 'ftp://{ftp}/pub'
              upload: {{ from: docs, to: release }}
          deploy:
            uses: kubernetes
            needs: [announce, deliver]
            with:
              server: '{cluster}'
              token: {{ secret: TOKEN }}
              namespace: shop
              deployment: web
              image: '${{{{ steps.push.reference }}}}'
",
            source = git.url("web.git"),
            image = registry.name("shop/web:1"),
            web = web.plain,
            ftp = ftp.host,
            cluster = cluster.url(),
        )
    }

    /// Runs it, and looks at every server for what it has got.
    #[track_caller]
    fn check(&self, flow: &str) {
        self.machine.write("cooperage.yaml", flow);
        let ran = self.machine.ok(&["run", "--output", "json", "--secret", "id=TOKEN,src=token"]);
        let result = ran.json();
        let steps = result["steps"].as_array().unwrap();
        let value = |step: &str, name: &str| {
            let found = steps.iter().find(|found| found["id"] == format!("shop/web:1/{step}")).unwrap();
            assert_eq!(found["status"], "succeeded", "{found}");
            found["values"][name].clone()
        };
        let digest = value("push", "digest");
        assert_eq!(digest, self.registry.digest("shop/web:1"));
        assert_eq!(self.registry.configuration("shop/web:1")["config"]["Labels"]["page"], "web");
        let notice: Value = serde_json::from_slice(&std::fs::read(self.web.file("up/notice.json")).unwrap()).unwrap();
        assert_eq!(notice, json!({ "digest": digest, "score": "7" }));
        assert_eq!(self.ftp.file("release/read.me"), b"read me\n");
        let image = format!("{}@{}", self.registry.name("shop/web"), digest.as_str().unwrap());
        let applied = self.cluster.state().applied[WEB].clone();
        assert_eq!(applied["spec"]["template"]["spec"]["containers"][0]["image"], image, "{applied}");
        assert_eq!(value("deploy", "workload"), "deployment/web");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains(TOKEN), "{said}");
    }
}

#[test]
fn a_commit_goes_all_the_way() {
    let Some(town) = Town::start() else { return };
    town.check(&town.flow("dockerfile", ""));
}

#[test]
fn a_commit_goes_all_the_way_through_an_engine() {
    if !have(DOCKER) {
        return;
    }
    let Some(town) = Town::start() else { return };
    let engine = Engine::docker(&town.machine);
    town.machine.configure(&format!("services: {{ docker: {} }}\n", engine.socket.display()));
    town.check(&town.flow("docker", ""));
    // The same by whichever builder the user has chosen.
    town.machine.ok(&["config", "set", "builder", "docker"]);
    assert_eq!(town.machine.ok(&["config", "get", "builder"]).out(), "docker");
    town.check(&town.flow("build", ", with: { no_cache: true }"));
}

/// Builds a component of a directory of the tests, as a stranger would.
pub fn guest(directory: &str, name: &str) -> PathBuf {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(directory);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "--manifest-path"]);
    cargo.arg(guest.join("Cargo.toml")).env("CARGO_TARGET_DIR", &target);
    for leaks in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(leaks);
    }
    assert!(cargo.status().unwrap().success(), "the guest builds");
    target.join("wasm32-wasip2/release").join(name).with_extension("wasm")
}

#[test]
fn strangers_work_together() {
    if !have(&[&VSFTPD[..], &["docker-registry"]].concat()) {
        return;
    }
    let machine = Machine::new().with_own_cache();
    let registry = Registry::start(&machine);
    let ftp = Ftp::vsftpd(&machine, Protection::None);
    // The host knows neither: they come from a registry, by names that are not bundled.
    let (builder, shelf) = (registry.name("plugins/site:1"), registry.name("plugins/shelf:1"));
    let key = Key::new(&machine, "theirs");
    key.publish(&machine, &guest("e2e/guests/site", "site_builder").display().to_string(), &builder);
    key.publish(&machine, &super::plugin::component("ftp").display().to_string(), &shelf);
    let registries = format!(
        "trust: {{ keys: {{ {} }} }}\n\
         registries: {{ '{}': {{ plugin: shelf, options: {{ root: pub/images, tls: none }} }} }}\n",
        key.line(),
        ftp.host
    );
    machine.configure(&registries);
    machine.write("web/pages/index.html", "<h1>Hello</h1>");
    machine.write("web/pages/more.html", "<h1>More</h1>");
    let image = format!("{}/team/site:1", ftp.host);
    machine.write(
        "cooperage.yaml",
        format!(
            "version: 1
plugins:
  site: {{ from: 'oci://{builder}' }}
  shelf: {{ from: 'oci://{shelf}', allow: {{ tcp: [registry] }} }}
flow:
  image: {{ uses: site, with: {{ context: web }} }}
  push: {{ uses: push, with: {{ image: '${{{{ steps.image.digest }}}}', to: '{image}' }} }}
"
        ),
    );
    let ran = machine.ok(&["run", "--output", "json"]);
    let result = ran.json();
    let digest = |step: &str| {
        let steps = result["steps"].as_array().unwrap();
        steps.iter().find(|found| found["id"] == step).unwrap()["values"]["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("image"), digest("push"));
    assert!(ftp.names("images/team/site").contains(&"index.json".to_owned()));

    // Somebody else gets the image from there, with the plugin under the same name.
    let other = machine.outside("other");
    let machine = machine.with_store(&other);
    machine.configure(&format!(
        "{registries}plugins: {{ shelf: {{ from: 'oci://{shelf}', allow: {{ tcp: [registry] }} }} }}\n",
    ));
    machine.ok(&["image", "pull", &image]);
    let inspected = machine.ok(&["image", "inspect", &image, "--output", "json"]).json();
    assert_eq!(inspected["descriptor"]["digest"], digest("push"));
    assert_eq!(inspected["config"]["config"]["Labels"]["pages"], "2");
}
