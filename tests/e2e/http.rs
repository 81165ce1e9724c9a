//! The plugin `http` as a step of flows and as a source, against nginx and against a server that breaks.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::support::registry::PASSWORD;
use crate::support::web::{NEEDS, Web};
use crate::support::{Machine, Ran, have, noise, tool};

fn start() -> Option<(Machine, Web)> {
    if !have(&NEEDS) {
        return None;
    }
    let machine = Machine::new();
    let web = Web::start(&machine);
    web.serve("a.json", r#"{"status":"ready","items":[{"id":7}]}"#);
    Some((machine, web))
}

/// Runs a flow with these steps, where `WEB` and `TLS` stand for the server.
fn run(machine: &Machine, web: &Web, steps: &str, args: &[&str]) -> Ran {
    let steps: String = steps.lines().map(|line| format!("          {}\n", line.trim())).collect();
    let steps = steps.replace("WEB", &web.plain).replace("TLS", &web.secure);
    let flow = format!("version: 1\nimages:\n  app:\n    tags:\n      latest:\n        flow:\n{steps}");
    machine.write("cooperage.yaml", flow);
    machine.run(&[&["run", "--output", "json"], args].concat())
}

/// Must succeed; the values of a step.
#[track_caller]
fn values(ran: &Ran, step: &str) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = ran.json();
    let steps = result["steps"].as_array().unwrap();
    steps.iter().find(|found| found["id"] == format!("app:latest/{step}")).unwrap()["values"].clone()
}

#[test]
fn an_answer_becomes_values_for_later_steps() {
    let Some((machine, web)) = start() else { return };
    web.serve("items/7.txt", "seven");
    let ran = run(
        &machine,
        &web,
        "list: { uses: http, with: { url: 'WEB/moved', outputs: { id: /items/0/id, kind: 'header:content-type' } } }
         item: { uses: http, with: { url: 'WEB/items/${{ steps.list.id }}.txt', query: { q: 'a b' } } }
         wait: { uses: http, with: { url: 'WEB/a.json', until: { pointer: /status, equals: ready } } }",
        &[],
    );
    let list = values(&ran, "list");
    assert_eq!((&list["id"], &list["kind"], &list["status"]), (&7.into(), &"application/json".into(), &200.into()));
    assert_eq!(list["json"]["status"], "ready");
    assert_eq!(values(&ran, "item")["body"], "seven");
    assert_eq!(web.requests("GET /items/7.txt?q=a%20b"), 1);
}

#[test]
fn files_go_there_and_back() {
    let Some((machine, web)) = start() else { return };
    let content = noise(5_000_000, 1);
    web.serve("file.bin", &content);
    machine.write("docs/a.txt", "text");
    machine.dockerfile("image", "FROM scratch\nCOPY Dockerfile /\n");
    machine.build("image", &["-t", "sent:1"]);
    let ran = run(
        &machine,
        &web,
        "get:   { uses: http, with: { url: 'WEB/file.bin', save: dir/f.bin, mode: '755' } }
         tls:   { uses: http, with: { url: 'TLS/file.bin', save: f } }
         put:   { uses: http, in: get, with: { url: 'WEB/up/f.bin', file: dir/f.bin } }
         form:  { uses: http, in: get, with: { url: 'WEB/up/form', method: PUT, multipart: [{ name: f, file: dir/f.bin }] } }
         pack:  { uses: http, in: get, with: { url: 'WEB/up/pack.tar', pack: / } }
         docs:  { uses: http, with: { url: 'WEB/up/docs.tar', pack: docs, known_length: true } }
         image: { uses: http, with: { url: 'WEB/up/image.tar', image: { image: 'sent:1', format: docker } } }",
        &["--registry-ca", &format!("{}={}", web.secure_host(), web.authority.display())],
    );
    assert_eq!(values(&ran, "get")["size"], content.len());
    assert_eq!(values(&ran, "put")["status"], 201);
    assert!(std::fs::read(web.file("up/f.bin")).unwrap() == content);
    assert!(std::fs::read(web.file("up/form")).unwrap().windows(1000).any(|window| window == &content[..1000]));
    let listed = |name: &str| tool("tar", ["-tvf", &web.file(name).display().to_string()]).stdout;
    let pack = listed("up/pack.tar");
    assert!(pack.contains("-rwxr-xr-x") && pack.contains(" dir/f.bin"), "{pack}");
    assert!(!pack.contains("cooperage.yaml"), "the file is the only one of its tree: {pack}");
    assert!(listed("up/docs.tar").contains(" a.txt"));
    assert!(listed("up/image.tar").contains("manifest.json"));
}

#[test]
fn a_file_can_lie_beside_those_of_the_input() {
    let Some((machine, web)) = start() else { return };
    machine.write("given", "x");
    let ran = run(
        &machine,
        &web,
        "get:  { uses: http, with: { url: 'WEB/a.json', save: dir/a.json, keep_input: true } }
         pack: { uses: http, in: get, with: { url: 'WEB/up/pack.tar', pack: / } }",
        &[],
    );
    values(&ran, "pack");
    let listed = tool("tar", ["-tf", &web.file("up/pack.tar").display().to_string()]).stdout;
    assert!(listed.contains("given\n") && listed.contains("dir/a.json\n"), "{listed}");
}

#[test]
fn credentials_are_used_and_not_shown() {
    let Some((machine, web)) = start() else { return };
    machine.write("right", format!("{PASSWORD}\n"));
    machine.write("wrong", "hunter2-hunter2");
    let step = "get: { uses: http, with: { url: 'WEB/private/a.json', basic: { username: alice, password: { secret: PW } } } }";
    let ran = run(&machine, &web, step, &["--secret", "id=PW,src=right"]);
    assert_eq!(values(&ran, "get")["json"]["status"], "ready");
    let ran = run(&machine, &web, step, &["--secret", "id=PW,src=wrong"]);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    ran.says(&["answers 401 Unauthorized", "check the secret"]).does_not_say(&["hunter2"]);
    assert_eq!(web.requests(" 401 "), 1, "wrong credentials are not tried again");
    let ran = run(&machine, &web, "get: { uses: http, with: { url: 'WEB/private/a.json' } }", &[]);
    ran.says(&["answers 401 Unauthorized", "`bearer` or `basic`"]);
}

#[test]
fn what_goes_wrong_is_said() {
    let Some((machine, web)) = start() else { return };
    machine.write("body", noise(2_000_000, 2));
    let zeros = "0".repeat(64);
    for (step, code, says) in [
        ("{ url: 'WEB/none' }", 2, &["GET http://localhost", "answers 404 Not Found"][..]),
        ("{ url: 'WEB/inside' }", 3, &["it redirects to http://10.255.255.1/x", "private address"]),
        ("{ url: 'http://169.254.169.254/latest' }", 3, &["http: [\"http://169.254.169.254\"]"]),
        ("{ url: 'http://localhost:1/', retries: 1 }", 4, &["localhost:1 refuses the connection", "tried 2 times"]),
        ("{ url: 'TLS/a.json' }", 3, &["signed by an authority that is not known here", "--registry-ca"]),
        ("{ url: 'WEB/full', method: PUT, file: body }", 1, &["answers 507", "no room left"]),
        ("{ url: 'WEB/a.json', save: a, checksum: 'sha256:ZEROS' }", 1, &["has the digest sha256:"]),
        ("{ url: 'WEB/a.json', outputs: { id: /items/1/id } }", 2, &["nothing at /items/1/id", "a list of 1"]),
        (
            "{ url: 'WEB/a.json', until: { pointer: /status, equals: x, fails_on: [ready] } }",
            1,
            &["/status is \"ready\""],
        ),
        ("{ url: 'WEB/up/x', file: missing }", 2, &["no file /missing"]),
        ("{ url: 'http://alice:hunter2@localhost/' }", 2, &["user name or a password", "basic:"]),
    ] {
        let step = format!("step: {{ uses: http, with: {} }}", step.replace("ZEROS", &zeros));
        let ran = run(&machine, &web, &step, &[]);
        assert_eq!(ran.code, Some(code), "{step}: {}", ran.stderr);
        ran.says(says);
    }
    machine.assert_store_is_clean();
}

/// Serves a file of which it gives `most` bytes a time before it breaks the connection; any number of times.
fn breaking(content: Vec<u8>, most: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file.bin", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<_> =
                lines.take_while(|line| !line.is_empty()).map(|line| line.to_ascii_lowercase()).collect();
            let first =
                head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
            let (status, first) = (if first.is_some() { 206 } else { 200 }, first.unwrap_or(0));
            let (size, rest) = (content.len(), &content[first..]);
            let sent = if head[0].starts_with("head") { &[][..] } else { &rest[..rest.len().min(most)] };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\nETag: \"one\"\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/{size}\r\n\r\n",
                rest.len(),
                size - 1,
            );
            let _ = stream.write_all(sent);
        }
    });
    url
}

#[test]
fn a_transfer_goes_on_where_it_broke() {
    let Some((machine, web)) = start() else { return };
    let content = noise(3_000_000, 3);
    let url = breaking(content.clone(), 700_000);
    let steps = format!(
        "get: {{ uses: http, with: {{ url: '{url}', save: f }} }}
         put: {{ uses: http, in: get, with: {{ url: 'WEB/up/f', file: f }} }}"
    );
    values(&run(&machine, &web, &steps, &[]), "put");
    assert!(std::fs::read(web.file("up/f")).unwrap() == content);
}

#[test]
fn a_url_is_a_source_of_builds() {
    let Some((machine, web)) = start() else { return };
    web.serve("hello.txt", "hello");
    let broken = breaking(noise(2_000_000, 4), 900_000);
    let plain = &web.plain;
    machine.dockerfile("context", &format!("FROM scratch\nADD {plain}/hello.txt /dir/\nADD {broken} /big\n"));
    let first = machine.build("context", &[]);
    assert_eq!(web.requests("GET /hello.txt"), 1);
    assert_eq!(machine.build("context", &[]), first);
    assert_eq!(web.requests("GET /hello.txt"), 1, "an unchanged file is not fetched again");
    web.serve("hello.txt", "changed");
    assert_ne!(machine.build("context", &[]), first);
    let checksum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    machine.dockerfile("context", &format!("FROM scratch\nADD --checksum={checksum} {plain}/hello.txt /dir/\n"));
    machine.run(&["build", "context"]).says(&["expected sha256:2cf24dba"]);
    machine.dockerfile("context", &format!("FROM scratch\nADD {plain}/nothing /dir/\n"));
    machine.fails(&["build", "context"], 2).says(&["answers 404 Not Found"]);
}

#[test]
fn the_context_of_a_step_is_a_url_with_parameters_of_its_source() {
    let Some((machine, web)) = start() else { return };
    web.serve("recipe.txt", "FROM scratch\nCOPY Dockerfile /copied\n");
    let plain = &web.plain;
    let step = |with: &str| {
        let context = format!("{{ url: '{plain}/recipe.txt'{with} }}");
        machine.write(
            "cooperage.yaml",
            format!("version: 1\nflow:\n  a: {{ uses: dockerfile, with: {{ context: {context} }} }}\n"),
        );
    };
    step(", with: { filename: Dockerfile }");
    machine.ok(&["run"]);
    machine.ok(&["run"]);
    assert_eq!(web.requests("GET /recipe.txt"), 1, "an unchanged file is not fetched again");
    step(", with: { filename: Dockerfile, mode: '644' }");
    machine.ok(&["run"]);
    assert_eq!(web.requests("GET /recipe.txt"), 2, "parameters are part of what is asked for");
    step(", with: { filenam: Dockerfile }");
    machine.fails(&["run"], 2).says(&["no parameter `filenam`"]);
    step(", wiht: {}");
    machine.fails(&["run"], 2).says(&["cooperage.yaml:3", "no `wiht` in a context", "did you mean `with`?"]);
}
