//! `coop plugin test --record`: what a real run meets becomes a recording, which is repeated with all of it shut down.

use std::fs;
use std::path::PathBuf;

use crate::support::ftp::{Ftp, PYFTPDLIB, Protection, VSFTPD};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::web::{NEEDS, Web};
use crate::support::{Machine, have, noise};

/// What a build of the recorded case needs around it.
struct World {
    machine: Machine,
    registry: Registry,
    web: Web,
}

fn world() -> Option<World> {
    if !have(&[&["docker-registry"], &NEEDS[..]].concat()) {
        return None;
    }
    let machine = Machine::new();
    let (registry, web) = (Registry::start(&machine), Web::start(&machine));
    machine.base();
    machine.ok(&["image", "push", "base:1", &registry.name("os:1")]);
    web.serve("hello.txt", "hello from afar\n");
    Some(World { machine, registry, web })
}

/// A builder's case that resolves images, copies from one, runs commands and takes a file from a URL.
fn case(world: &World, name: &str) -> PathBuf {
    let folder = world.machine.path(name);
    fs::create_dir_all(folder.join("context")).unwrap();
    let os = world.registry.name("os:1");
    let dockerfile = format!(
        "FROM {os} AS tools\nRUN echo made > /made && rm /bin/true && echo lost > /lost\n\
         FROM {os}\nADD {plain}/hello.txt /hello\nCOPY --from=tools /made /etc/group /kept/\n\
         RUN cat /hello && test -f /kept/made\nUSER worker\n",
        plain = world.web.plain,
    );
    fs::write(folder.join("context/Dockerfile"), dockerfile).unwrap();
    let case = "role: builder\ncontext: context\nexpect:\n  images:\n  - config: { config: { User: worker } }\n    \
                files:\n      /kept/made: \"made\\n\"\n      /kept/group: { kind: file }\n      /hello: { kind: file }\n      \
                /lost: null\n  log-contains: [hello from afar]\n";
    fs::write(folder.join("case.yaml"), case).unwrap();
    folder
}

fn recorded(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder.join("recorded")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(folder.join("recording.yaml"));
    files.sort();
    let content = |path: PathBuf| (path.file_name().unwrap().display().to_string(), fs::read(&path).unwrap());
    files.into_iter().map(content).collect()
}

#[test]
fn a_recorded_build_is_repeated_with_nothing_around_it() {
    let Some(world) = world() else { return };
    let (one, two) = (case(&world, "one"), case(&world, "two"));
    for folder in [&one, &two] {
        world.machine.ok(&["plugin", "test", "dockerfile", folder.to_str().unwrap(), "--record"]);
    }
    assert_eq!(recorded(&one), recorded(&two), "two recordings of one run");
    let size: usize = recorded(&one).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(size < 32 << 10, "what nobody read is recorded, too: {size} bytes");
    let World { machine, registry, web } = world;
    let host = registry.host.clone();
    drop((registry, web));
    machine.ok(&["plugin", "test", "dockerfile", one.to_str().unwrap()]);
    // The same again without anything that could run a process.
    for (from, to, parts) in [
        (
            "cat /hello &&",
            "cat /etc/passwd &&",
            &["a command is run that the case does not know", "cat /etc/passwd", "cat /hello"][..],
        ),
        ("os:1 AS", "os:2 AS", &["the case has no image", "os:2", "os:1"]),
        ("hello.txt", "other.txt", &["the case has no source", "other.txt", "hello.txt"]),
        (
            "/etc/group",
            "/bin/busybox",
            &["the content of /bin/busybox", &host, "was not read when the run was recorded"],
        ),
        ("/made /etc", "/lost /etc", &["the content of /lost", "what", "echo lost", "was not read when"]),
    ] {
        let file = two.join("context/Dockerfile");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let ran = machine.fails(&["plugin", "test", "dockerfile", two.to_str().unwrap()], 1);
        ran.prints(parts);
        fs::write(&file, text).unwrap();
    }
}

#[test]
fn what_a_case_says_itself_is_asked_of_nobody() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    let folder = machine.path("own");
    machine.write("own/context/Dockerfile", "FROM nowhere.invalid/os:1\nRUN make it\n");
    let case = "role: builder\ncontext: context\nimages: [{ reference: 'nowhere.invalid/os:1' }]\n\
                run: [{ shell: make it, output: made }]\nexpect: { log-contains: [made] }\n";
    machine.write("own/case.yaml", case);
    machine.ok(&["plugin", "test", "dockerfile", folder.to_str().unwrap(), "--record"]);
    let recording = fs::read_to_string(folder.join("recording.yaml")).unwrap();
    assert!(!recording.contains("nowhere") && !recording.contains("make it"), "{recording}");
}

#[test]
fn a_recorded_push_answers_what_the_registry_did() {
    if !have(&["docker-registry"]) {
        return;
    }
    let machine = Machine::new();
    let registry = Registry::start(&machine);
    let folder = machine.path("push");
    let case = format!(
        "role: task\nwith: {{ image: 'mine:1', to: '{}', tags: [also] }}\n\
         images: [{{ reference: 'mine:1', config: {{ author: me }} }}]\n\
         expect:\n  pushed:\n  - {{ image: 'mine:1', reference: '{}' }}\n  - {{ reference: '{}' }}\n",
        registry.name("mine:1"),
        registry.name("mine:1"),
        registry.name("mine:also"),
    );
    machine.write("push/case.yaml", case);
    machine.ok(&["plugin", "test", "push", folder.to_str().unwrap(), "--record"]);
    let digest = registry.digest("mine:also");
    drop(registry);
    let recording = fs::read_to_string(folder.join("recording.yaml")).unwrap();
    assert!(recording.contains(&digest), "{digest} is not in:\n{recording}");
    let ran = machine.ok(&["plugin", "test", "push", folder.to_str().unwrap(), "--accept"]);
    assert!(ran.stdout.contains("ok"), "{}", ran.stdout);
}

/// A transfer there and one back, as cases of the plugin `ftp`.
fn transfers(machine: &Machine, url: &str, login: &str) -> Vec<PathBuf> {
    let cases = [
        ("up", "in: context\n", "upload: { from: ., to: there }", "expect: { outputs: { files: 2 } }"),
        ("down", "", "download: { from: there/ }", "expect: { files: { /note.txt: \"over and out\\n\" } }"),
    ];
    let write = |(name, input, transfer, expect): (&str, &str, &str, &str)| {
        let folder = machine.path(&format!("{name}-{}", url.split(':').next().unwrap()));
        fs::create_dir_all(folder.join("context")).unwrap();
        fs::write(folder.join("context/note.txt"), "over and out\n").unwrap();
        fs::write(folder.join("context/noise"), noise(40_000, 7)).unwrap();
        let case = format!("role: task\n{input}with: {{ url: '{url}', {login}{transfer} }}\n{expect}\n");
        fs::write(folder.join("case.yaml"), case).unwrap();
        folder
    };
    cases.map(write).into()
}

#[test]
fn recorded_connections_are_repeated_without_their_server() {
    if !have(&[&VSFTPD[..], &PYFTPDLIB[..]].concat()) {
        return;
    }
    let machine = Machine::new();
    machine.write("password", PASSWORD);
    let login = format!("username: {USER}, password: {{ secret: PASSWORD }}, ");
    let (encrypted, plain) = (Ftp::vsftpd(&machine, Protection::Explicit), Ftp::pyftpdlib(&machine, 0));
    let authority = format!("{}={}", encrypted.host, encrypted.authority.display());
    let cases = [
        transfers(&machine, &format!("ftpes://{}/pub", encrypted.host), ""),
        transfers(&machine, &format!("ftp://{}/", plain.host), &login),
    ]
    .concat();
    for folder in &cases {
        if folder.ends_with("up-ftp") || folder.ends_with("down-ftp") {
            let case = fs::read_to_string(folder.join("case.yaml")).unwrap();
            fs::write(folder.join("case.yaml"), format!("{case}secrets: {{ PASSWORD: made up }}\n")).unwrap();
        }
        let record = ["plugin", "test", "ftp", folder.to_str().unwrap(), "--record", "--registry-ca", &authority];
        machine.ok(&[&record[..], &["--secret", "id=PASSWORD,src=password"]].concat());
        let written = recorded(folder);
        assert!(written.iter().all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains(PASSWORD)));
    }
    let text = fs::read_to_string(cases[0].join("recording.yaml")).unwrap();
    assert!(
        text.contains("- {\"receive\":\"AUTH TLS\\r\\n\"}\n  - {\"send\":") && text.contains("\n  - \"tls\"\n"),
        "{text}"
    );
    let text = fs::read_to_string(cases[3].join("recording.yaml")).unwrap();
    assert!(text.contains("PASS ***PASSWORD***\\r\\n") && text.contains("over and out"), "{text}");
    drop((encrypted, plain));
    for folder in &cases {
        machine.ok(&["plugin", "test", "ftp", folder.to_str().unwrap()]);
    }
    // What the plugin says has to be what it said then.
    for (from, to, parts) in [
        ("AUTH TLS", "AUTH SSL", &["turn", "AUTH TLS", "AUTH SSL"][..]),
        ("- \"tls\"\n", "- {\"receive\":\"x\"}\n", &["the plugin began TLS, which the case does not have there"]),
        ("- {\"receive\":\"AUTH", "- \"tls\"\n  - {\"receive\":\"AUTH", &["instead of beginning TLS"]),
    ] {
        let text = fs::read_to_string(cases[0].join("recording.yaml")).unwrap();
        assert!(text.contains(from));
        fs::write(cases[0].join("recording.yaml"), text.replacen(from, to, 1)).unwrap();
        machine.fails(&["plugin", "test", "ftp", cases[0].to_str().unwrap()], 1).prints(parts);
        fs::write(cases[0].join("recording.yaml"), text).unwrap();
    }
}
