//! Whatever is in a Dockerfile, the answer is an image or a fault: tests with real files and with noise.

use proptest::prelude::*;

use crate::fault::{Fault, Kind, Source};
use crate::instructions;
use crate::plan::{Image, Request, check, convert};
use crate::platform::Platform;
use crate::testing::Recorder;

fn attempt(text: &str, arguments: &[(&str, &str)]) -> Result<(Vec<Image<usize>>, Recorder), Fault> {
    let source = Source::new("Dockerfile", text);
    let dockerfile = instructions::read(text).map_err(|fault| source.complete(fault))?;
    let host = Platform::new("linux", "amd64", None);
    let request = Request {
        target: None,
        platforms: vec![host.clone(), Platform::new("linux", "arm64", None)],
        build_platform: host,
        arguments: arguments.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        labels: Vec::new(),
        epoch: None,
        ignore: Vec::new(),
        images: Vec::new(),
        all_stages: false,
    };
    let mut recorder = Recorder::default();
    // A check goes on where images are missing, and looks at more stages.
    let _ = check(&dockerfile, &source, &Request { all_stages: true, ..request.clone() }, &mut recorder);
    let images = convert(&dockerfile, &source, &request, &mut recorder)?;
    Ok((images, recorder))
}

/// What holds for every result.
fn examine(text: &str, arguments: &[(&str, &str)]) -> Result<(), Fault> {
    match attempt(text, arguments) {
        Ok((images, recorder)) => {
            assert_eq!(images.len(), 2);
            for image in images {
                operations_match_history(&image, &recorder, text);
            }
            Ok(())
        }
        Err(fault) => {
            assert!(!fault.message.is_empty());
            assert_ne!(fault.kind, Kind::Internal, "{text:?}: {fault}");
            Err(fault)
        }
    }
}

/// The host counts on it: an entry that is not empty for each layer of the base and each operation after it.
fn operations_match_history(image: &Image<usize>, recorder: &Recorder, text: &str) {
    let lines: std::collections::HashMap<&str, &str> =
        recorder.log.iter().filter_map(|line| line.split_once(" = ")).collect();
    let mut tree = format!("t{}", image.tree);
    let mut operations = 0;
    loop {
        let line = lines[tree.as_str()];
        let first = line.split(' ').next().unwrap();
        match first {
            "image" => operations += 1,
            "scratch" | "context" => {}
            before => {
                operations += 1;
                tree = before.to_owned();
                continue;
            }
        }
        break;
    }
    let history = image.config["history"].as_array().cloned().unwrap_or_default();
    let entries = history.iter().filter(|entry| entry.get("empty_layer").is_none()).count();
    assert_eq!(entries, operations, "{text}");
}

#[test]
fn converts_dockerfiles_that_broke_builders() {
    let Some(folder) = crate::testing::cases("dockerfiles") else {
        return;
    };
    let mut converted = 0;
    let mut refused = Vec::new();
    let mut open = vec![folder];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            if path.extension().is_some_and(|extension| extension == "dockerignore") {
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            match examine(
                &text,
                &[
                    ("IMAGE_REPO", "registry.example/"),
                    ("REGISTRY", "registry.example"),
                    ("version", "1"),
                    ("file", "/f"),
                ],
            ) {
                Ok(()) => converted += 1,
                Err(fault) => refused.push(format!("{}: {fault}", path.file_name().unwrap().to_string_lossy())),
            }
        }
    }
    // Two need a build argument for their FROM.
    let known = |fault: &String| fault.contains("in FROM is empty");
    assert!(refused.iter().all(known), "{refused:#?}");
    assert!(converted > 150, "{converted}");
}

/// Pieces that mean something, so that noise gets past the first line.
const PIECES: [&str; 60] = [
    "FROM a\n",
    "FROM scratch AS s\n",
    "FROM s\n",
    "FROM $A",
    "ARG A=1\n",
    "ARG A\n",
    "ENV A=$A$B\n",
    "ENV a b\n",
    "RUN ",
    "RUN <<E\n",
    "E\n",
    "COPY --from=0 ",
    "COPY --from=s ",
    "COPY ",
    "ADD ",
    "ONBUILD ",
    "WORKDIR ",
    "USER ",
    "CMD [\"a\"]\n",
    "CMD ",
    "HEALTHCHECK ",
    "EXPOSE ",
    "VOLUME ",
    "LABEL ",
    "SHELL [\"x\"]\n",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "--mount=type=cache,target=/c ",
    "--mount=",
    "--chmod=7 ",
    "--platform=$A ",
    "--interval=1s ",
    "# escape=`\n",
    "# check=error=true\n",
    "# c\n",
    "\\\n",
    "`\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\"",
    "'",
    "$A",
    "${A:-x}",
    "${A#*}",
    "${A%%?}",
    "${A//a/b}",
    "${",
    "}",
    "\\",
    "<<E ",
    "<<-'E' ",
    "[",
    "]",
    "=",
    "a",
    "/b/ ",
    "é\u{feff}",
    "\0",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_in_any_order_never_panic(picks in proptest::collection::vec(0..PIECES.len(), 0..40), prefix: bool) {
        let body: String = picks.iter().map(|pick| PIECES[*pick]).collect();
        let text = if prefix { format!("FROM a AS s\n{body}") } else { body };
        let _ = examine(&text, &[("A", "x*y\"")]);
    }

    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = examine(&text, &[]);
        let _ = examine(&format!("FROM a\n{text}"), &[]);
        let _ = examine(&format!("FROM a\nRUN --mount={text}"), &[]);
        let _ = examine(&format!("FROM a\nENV V={text}\nEXPOSE {text}\nSTOPSIGNAL {text}"), &[]);
    }
}

#[test]
fn large_and_nasty_files_end_in_time() {
    let doubling = format!("FROM a\nENV A=xxxxxxxx\n{}", "ENV A=$A$A\n".repeat(64));
    assert_eq!(examine(&doubling, &[]).unwrap_err().kind, Kind::Limit);
    let chain = format!("FROM a\nONBUILD {}RUN x\n", "ONBUILD ".repeat(50_000));
    assert!(examine(&chain, &[]).is_err());
    let nested = format!("FROM a\nENV A={}\n", "${A:-".repeat(50_000));
    assert!(examine(&nested, &[]).is_err());
    let array = format!("FROM a\nCMD {}\n", "[".repeat(50_000));
    assert!(examine(&array, &[]).is_ok(), "not JSON, so the shell gets it");
    let stars = format!("FROM a\nARG A={}\nENV B=${{A##{}b}}\n", "a".repeat(3000), "*a".repeat(300));
    assert!(examine(&stars, &[]).is_ok());
    let stages: String = (0..300)
        .map(|i| format!("FROM {} AS s{i}\nRUN x\n", if i == 0 { "a".into() } else { format!("s{}", i - 1) }))
        .collect();
    assert!(examine(&stages, &[]).is_ok());
    assert!(examine("FROM a\nEXPOSE 0-65535\n", &[]).is_ok());
}
