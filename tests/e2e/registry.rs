//! Images to and from real registries: plain, with a password, with TLS; checked with skopeo.

use crate::support::registry::{Kind, PASSWORD, Registry, USER};
use crate::support::{Machine, have, tool};

fn machine() -> Option<Machine> {
    if !have(&["docker-registry", "skopeo", "htpasswd", "openssl"]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    machine.write("context/file", "content");
    Some(machine)
}

#[test]
fn an_image_is_pushed_once_and_is_the_same_when_it_comes_back() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("team/app:1");
    machine.dockerfile("context", "FROM base:1\nCOPY file /\n");
    let digest = machine.build("context", &["-t", &name, "--push"]);
    assert_eq!(registry.digest("team/app:1"), digest);
    let uploads = registry.requests("PUT", "/blobs/uploads/");
    assert_eq!(uploads, 3, "two layers and a configuration: {}", registry.log());
    let pushed = machine.ok(&["image", "push", &name, "--progress", "quiet"]);
    assert_eq!(pushed.out(), format!("{name}@{digest}"));
    assert_eq!(registry.requests("PUT", "/blobs/uploads/"), uploads, "nothing is sent twice");

    let other = Machine::new();
    other.ok(&["image", "pull", &name]);
    other.ok(&["image", "export", &name, "-o", "type=oci,dest=back.tar"]);
    let archive = format!("oci-archive:{}", other.text("back.tar"));
    assert_eq!(tool("skopeo", ["inspect", "--format", "{{.Digest}}", &archive]).out(), digest);
    other.assert_store_is_clean();
}

#[test]
fn an_image_that_skopeo_pushed_is_a_base() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    machine.ok(&["image", "export", "base:1", "-o", "type=oci,dest=base.tar"]);
    let archive = format!("oci-archive:{}", machine.text("base.tar"));
    for (name, format) in [("oci/base:1", "oci"), ("docker/base:1", "v2s2")] {
        let to = format!("docker://{}", registry.name(name));
        tool("skopeo", ["copy", "--dest-tls-verify=false", "--format", format, &archive, &to]);
        let other = Machine::new();
        let reference = registry.name(name);
        other.dockerfile("context", &format!("FROM {reference}\nLABEL x=y\n"));
        let repository = name.split(':').next().unwrap();
        let asked = || registry.requests("GET", &format!("/{repository}/blobs/"));
        other.build("context", &["-t", "result:1"]);
        assert_eq!(asked(), 1, "a base whose files nobody looks at is not downloaded: {}", registry.log());
        other.write("context/file", "content");
        other.dockerfile(
            "context",
            &format!("FROM {reference} AS other\nFROM scratch\nCOPY --from=other /etc/group /\n"),
        );
        other.build("context", &["-t", "result:1"]);
        assert_eq!(asked(), 2, "its layer is downloaded once: {}", registry.log());
    }
}

#[test]
fn a_base_pinned_to_a_digest_is_that_one() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    machine.dockerfile("context", "FROM base:1\nENV WHICH=first\nCOPY file /\n");
    let first = machine.build("context", &["-t", &registry.name("app:1"), "--push"]);
    machine.dockerfile("context", "FROM base:1\nENV WHICH=second\nCOPY file /\n");
    machine.build("context", &["-t", &registry.name("app:1"), "--push"]);

    let other = Machine::new();
    other.dockerfile("context", &format!("FROM {}@{first}\nENV MORE=1\n", registry.name("app:1")));
    other.build("context", &["-t", &registry.name("result:1"), "--push"]);
    assert!(registry.configuration("result:1")["config"]["Env"].to_string().contains("WHICH=first"));
    let nothing = "0".repeat(64);
    other.dockerfile("context", &format!("FROM {}@sha256:{nothing}\nENV MORE=1\n", registry.name("app:1")));
    other.fails(&["build", "context"], 2).says(&["Dockerfile:1", &nothing, "404"]);
}

#[test]
fn a_moved_tag_is_noticed_when_asked_to_pull() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("moving:1");
    let push = |which: &str| {
        let pusher = Machine::new();
        pusher.write("context/which", which);
        pusher.dockerfile("context", "FROM scratch\nCOPY which /\n");
        pusher.build("context", &["-t", &name, "--push"])
    };
    push("first");
    machine.dockerfile("context", &format!("FROM {name}\nLABEL x=y\n"));
    let first = machine.build("context", &[]);
    push("second");
    assert_eq!(machine.build("context", &[]), first, "the store has it");
    assert_ne!(machine.build("context", &["--pull"]), first);
    machine.dockerfile("context", &format!("FROM {}\n", registry.name("absent:1")));
    machine.fails(&["build", "context", "--pull=never"], 2).says(&["absent:1", "Dockerfile:1"]);
}

#[test]
fn layers_of_a_base_are_mounted_from_their_repository() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let base = registry.name("library/base:1");
    machine.ok(&["image", "push", "base:1", &base]);
    let sent = registry.requests("PUT", "/blobs/uploads/");

    let other = Machine::new();
    other.write("context/file", "content");
    other.dockerfile("context", &format!("FROM {base}\nCOPY file /\n"));
    let digest = other.build("context", &["-t", &registry.name("team/app:1"), "--push"]);
    assert_eq!(registry.digest("team/app:1"), digest);
    assert_eq!(registry.requests("PUT", "/blobs/uploads/") - sent, 2, "own layer and configuration only");
    assert!(registry.log().contains("mount="), "{}", registry.log());
}

#[test]
fn a_password_is_kept_by_login_and_asked_for_by_the_registry() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start_as(&machine, Kind::Password);
    let name = registry.name("private/app:1");
    let push = ["image", "push", "base:1", &name];
    machine.fails(&push, 4).says(&[&registry.host, "coop registry login"]);
    let login = |password: &str| {
        use std::io::Write;
        use std::process::Stdio;
        let mut command = machine.coop(&["registry", "login", &registry.host, "-u", USER, "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        crate::support::Ran::from(child.wait_with_output().unwrap())
    };
    let wrong = login("wrong-password");
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
    wrong.says(&[&registry.host]).does_not_say(&["wrong-password"]);
    machine.fails(&push, 4);
    let right = login(PASSWORD);
    assert_eq!(right.code, Some(0), "{right:?}");
    machine.ok(&push).does_not_say(&[PASSWORD]);
    let credentials = format!("{USER}:{PASSWORD}");
    let url = format!("docker://{name}");
    tool("skopeo", ["inspect", "--tls-verify=false", "--creds", &credentials, &url]);
    // The file that Docker and skopeo read.
    let file = machine.outside("home/.docker/config.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "others may read the password");
    tool("skopeo", ["inspect", "--tls-verify=false", "--authfile", &file.display().to_string(), &url]);
    machine.ok(&["registry", "logout", &registry.host]);
    machine.fails(&push, 4);
}

#[test]
fn an_own_authority_is_trusted_when_it_is_named() {
    let Some(mut machine) = machine() else { return };
    let registry = Registry::start_as(&machine, Kind::Tls);
    let name = registry.name("secure/app:1");
    let authority = registry.authority.clone().unwrap().display().to_string();
    let push = ["image", "push", "base:1", &name];
    // Registries of this machine are asked without TLS unless something says otherwise. This one speaks it.
    let option = format!("--registry-ca {}=FILE", registry.host);
    let unknown: &[&str] = &[&registry.host, "certificate", "authority that is not known here", &option];
    let advice_of_others = ["answers 400", "account", "log in"];
    machine.fails(&push, 4).says(unknown).does_not_say(&advice_of_others);
    machine.dockerfile("context", &format!("FROM {name}\n"));
    machine.fails(&["build", "context"], 4).says(unknown).does_not_say(&advice_of_others);
    machine.configure(&format!("registries:\n  \"{}\": {{}}\n", registry.host));
    machine.fails(&push, 4).says(unknown).does_not_say(&advice_of_others);
    machine.options = vec!["--registry-ca".to_owned(), format!("{}={authority}", registry.host)];
    machine.ok(&push);
    // Asked without TLS by the user's own word, it is spoken to with TLS once its answer shows that it must be.
    machine.options.extend(["--insecure-registry".to_owned(), registry.host.clone()]);
    machine.dockerfile("context", "FROM base:1\nCOPY file /\n");
    machine.build("context", &["-t", &registry.name("secure/more:1"), "--push"]);
    machine.ok(&["image", "pull", &registry.name("secure/more:1")]);
    let certificates = machine.path("certificates");
    std::fs::create_dir(&certificates).unwrap();
    std::fs::copy(&authority, certificates.join("ca.crt")).unwrap();
    let url = format!("docker://{name}");
    tool("skopeo", ["inspect", "--cert-dir", &certificates.display().to_string(), &url]);
    // The same from the configuration.
    machine.options.clear();
    let config = format!("registries:\n  \"{}\": {{ ca: {authority} }}\n", registry.host);
    machine.configure(&config);
    machine.ok(&push);
}

#[test]
fn the_wanted_platform_is_chosen_from_an_index() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let name = registry.name("many:1");
    machine.dockerfile("context", "FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY file /\n");
    let digest = machine.build("context", &["-t", &name, "--push", "--platform", "linux/amd64,linux/arm64"]);
    let url = format!("docker://{name}");
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &url]).json();
    assert_eq!(raw["manifests"].as_array().map(Vec::len), Some(2), "{raw}");
    for arch in ["amd64", "arm64"] {
        let choose = ["--override-os", "linux", "--override-arch", arch, "inspect", "--tls-verify=false", "--config"];
        let config = tool("skopeo", choose.iter().copied().chain([url.as_str()])).json();
        assert_eq!(config["architecture"], arch);
        let other = Machine::new();
        other.dockerfile("context", &format!("FROM {name}\nLABEL x=y\n"));
        let platform = format!("linux/{arch}");
        other.build("context", &["-t", &registry.name("result:1"), "--push", "--platform", &platform]);
        let config =
            tool("skopeo", choose.iter().copied().chain([format!("docker://{}", registry.name("result:1")).as_str()]))
                .json();
        assert_eq!(config["architecture"], arch);
        assert!(config["config"]["Env"].to_string().contains(&format!("ARCH={arch}")));
    }
    let other = Machine::new();
    other.dockerfile("context", &format!("FROM {name}@{digest}\n"));
    other.fails(&["build", "context", "--platform", "linux/s390x"], 2).says(&["linux/s390x", "linux/amd64"]);
}

#[test]
fn routes_send_names_elsewhere() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let route = format!("{{ location: {}/mirror }}", registry.host);
    machine.configure(&format!("pull:\n  docker.io/acme: {route}\npush:\n  docker.io/acme: {route}\n"));
    machine.dockerfile("context", "FROM base:1\nCOPY file /\n");
    let digest = machine.build("context", &["-t", "acme/app:1", "--push"]);
    assert_eq!(registry.digest("mirror/app:1"), digest);
    machine.ok(&["image", "rm", "acme/app:1"]);
    machine.dockerfile("other", "FROM acme/app:1\nLABEL x=y\n");
    machine.build("other", &["-t", "result:1"]);
}

#[test]
fn a_layer_is_fetched_from_where_it_was_seen_not_from_where_the_image_is_named_after() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let base = registry.name("library/base:1");
    machine.ok(&["image", "push", "base:1", &base]);
    let other = Machine::new();
    other.dockerfile("context", &format!("FROM {base}\nENV A=1\n"));
    let digest = other.build("context", &["-t", "result:1"]);
    // No byte of the base is here yet.
    other.ok(&["image", "export", "result:1", "-o", "type=oci,dest=result.tar"]);
    let archive = format!("oci-archive:{}", other.text("result.tar"));
    assert_eq!(tool("skopeo", ["inspect", "--format", "{{.Digest}}", &archive]).out(), digest);

    let third = Machine::new();
    third.dockerfile("context", &format!("FROM {base}\nENV A=1\n"));
    third.build("context", &["-t", "result:1"]);
    third.dockerfile("context", "FROM result:1 AS result\nFROM scratch\nCOPY --from=result /etc/group /\n");
    third.build("context", &[]);
}
