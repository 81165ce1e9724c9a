use super::*;
use crate::fault::Kind;
use crate::instructions;
use crate::testing::Recorder;
use serde_json::json;

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn request() -> Request {
    Request {
        target: None,
        platforms: vec![amd64()],
        build_platform: amd64(),
        arguments: Vec::new(),
        labels: Vec::new(),
        epoch: None,
        ignore: Vec::new(),
        images: Vec::new(),
        all_stages: false,
    }
}

fn arguments(pairs: &[(&str, &str)]) -> Request {
    let arguments = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Request { arguments, ..request() }
}

fn try_with(text: &str, request: &Request, recorder: &mut Recorder) -> Result<Vec<Image<usize>>, Fault> {
    let source = Source::new("Dockerfile", text);
    let dockerfile = instructions::read(text).map_err(|fault| source.complete(fault))?;
    convert(&dockerfile, &source, request, recorder)
}

fn with(text: &str, request: &Request, recorder: &mut Recorder) -> Vec<Image<usize>> {
    try_with(text, request, recorder).unwrap_or_else(|fault| panic!("{text}\n{fault} {:?}", fault.hint))
}

/// The log of a conversion against the expected one; leading blanks do not count.
fn check(text: &str, request: &Request, expected: &str) -> Image<usize> {
    let mut recorder = Recorder::default();
    let mut images = with(text, request, &mut recorder);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(recorder.log, expected, "{text}");
    images.remove(0)
}

fn config(text: &str, request: &Request) -> Value {
    with(text, request, &mut Recorder::default()).remove(0).config
}

fn created_by(config: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let mark = if entry["empty_layer"] == json!(true) { "- " } else { "+ " };
        format!("{mark}{}", entry["created_by"].as_str().unwrap())
    };
    config["history"].as_array().unwrap().iter().map(entry).collect()
}

fn fault(text: &str, request: &Request) -> Fault {
    let result = try_with(text, request, &mut Recorder::default());
    result.err().unwrap_or_else(|| panic!("{text} is fine"))
}

#[test]
fn a_plain_dockerfile() {
    let image = check(
        "FROM busybox:1\nWORKDIR /app\nCOPY . .\nRUN make\nCMD [\"./app\"]\n",
        &request(),
        r#"
        resolve busybox:1 linux/amd64
        t1 = image busybox:1
        t2 = t1 mkdir /app 755 None
        t3 = context ""
        t4 = t2 copy t3 ["/"] -> "/app/"
        t5 = t4 run ["/bin/sh", "-c", "make"] env=[] cwd=/app user=""
        "#,
    );
    assert_eq!(image.tree, 5);
    assert_eq!(image.platform, amd64());
    assert_eq!(image.config["created"], "1970-01-01T00:00:00Z");
    assert_eq!(
        image.config["config"],
        json!({"Env": [format!("PATH={}", crate::config::DEFAULT_PATH)], "WorkingDir": "/app", "Cmd": ["./app"]})
    );
    assert_eq!(
        created_by(&image.config),
        ["+ base", "+ WORKDIR /app", "+ COPY . .", "+ RUN /bin/sh -c make", "- CMD [\"./app\"]"]
    );
}

#[test]
fn stages_are_resolved_at_once_and_only_when_needed() {
    check(
        "FROM golang AS Build\nRUN build\nFROM unused AS x\nRUN never\nFROM alpine\nCOPY --from=build /out /in\nCOPY --from=0 /out /two\nCOPY --from=nginx:1 /a /b\n",
        &request(),
        r#"
        resolve alpine linux/amd64, golang linux/amd64, nginx:1 linux/amd64
        t1 = image golang
        t2 = t1 run ["/bin/sh", "-c", "build"] env=[] cwd=/ user=""
        t3 = image alpine
        t4 = t3 copy t2 ["/out"] -> "/in"
        t5 = t4 copy t2 ["/out"] -> "/two"
        t6 = image nginx:1
        t7 = t5 copy t6 ["/a"] -> "/b"
        "#,
    );
}

#[test]
fn targets_by_name_and_number() {
    let text = "FROM a AS one\nRUN x\nFROM b AS Two\nRUN y\n";
    for (target, image) in [("one", "a"), ("ONE", "a"), ("0", "a"), ("two", "b"), ("1", "b")] {
        let mut recorder = Recorder::default();
        with(text, &Request { target: Some(target.into()), ..request() }, &mut recorder);
        assert_eq!(recorder.log[1], format!("t1 = image {image}"), "{target}");
    }
    let wrong = fault(text, &Request { target: Some("tow".into()), ..request() });
    assert_eq!((wrong.kind, wrong.hint.as_deref()), (Kind::NotFound, Some("did you mean two?")));
    assert!(fault(text, &Request { target: Some("2".into()), ..request() }).hint.unwrap().contains("one, two"));
}

#[test]
fn a_stage_from_a_stage_inherits_everything_but_onbuild_and_cmd_order() {
    let image = check(
        "FROM a AS base\nARG V=1\nENV E=$V\nSHELL [\"/bin/bash\", \"-c\"]\nUSER u\nWORKDIR /w\nCMD [\"x\"]\nONBUILD RUN trigger $V\nFROM base\nWORKDIR sub\nRUN own\nENTRYPOINT [\"e\"]\n",
        &request(),
        r#"
        resolve a linux/amd64
        t1 = image a
        t2 = t1 mkdir /w 755 Some("u")
        t3 = t2 run ["/bin/bash", "-c", "trigger $V"] env=["V=1", "E=1"] cwd=/w user="u"
        t4 = t3 mkdir /w/sub 755 Some("u")
        t5 = t4 run ["/bin/bash", "-c", "own"] env=["V=1", "E=1"] cwd=/w/sub user="u"
        "#,
    );
    assert_eq!(image.config["config"]["OnBuild"], Value::Null);
    assert_eq!(image.config["config"]["Cmd"], Value::Null, "ENTRYPOINT resets the CMD of the base");
    assert!(created_by(&image.config).contains(&"+ RUN |1 V=1 /bin/bash -c own".into()));
}

#[test]
fn names_of_arguments_are_expanded() {
    let text = "FROM base\nARG N=B\nARG ${N}1=value\nLABEL l=$B1\n";
    let mut recorder = Recorder::default();
    let images = with(text, &arguments(&[("B1", "given")]), &mut recorder);
    assert_eq!(images[0].config["config"]["Labels"]["l"], "given");
}

#[test]
fn arguments_have_scopes() {
    let text =
        "ARG TAG=1\nARG IMAGE=base:$TAG\nFROM $IMAGE\nARG TAG\nARG OTHER=x-${TAG}\nARG EMPTY\nARG TARGETARCH\nRUN x\n";
    let mut recorder = Recorder::default();
    let image = with(text, &arguments(&[("TAG", "2"), ("unused", "1"), ("https_proxy", "p")]), &mut recorder).remove(0);
    assert_eq!(
        recorder.log[2],
        r#"t2 = t1 run ["/bin/sh", "-c", "x"] env=["TAG=2", "OTHER=x-2", "TARGETARCH=amd64"] cwd=/ user="""#
    );
    assert_eq!(recorder.log[0], "resolve base:2 linux/amd64");
    assert_eq!(recorder.warnings, ["the build argument unused is used by no ARG of the Dockerfile"]);
    let history = created_by(&image.config);
    assert_eq!(
        history[1..],
        [
            "- ARG TAG=2",
            "- ARG OTHER=x-2",
            "- ARG EMPTY",
            "- ARG TARGETARCH=amd64",
            "+ RUN |4 TAG=2 OTHER=x-2 EMPTY= TARGETARCH=amd64 /bin/sh -c x"
        ]
    );
    assert!(image.config["config"]["Env"].as_array().unwrap().len() == 1, "an ARG is not in the image");
}

#[test]
fn later_settings_win() {
    let env = |text: &str, request: &Request| {
        let mut recorder = Recorder::default();
        with(text, request, &mut recorder);
        recorder.log.last().unwrap().split("env=").nth(1).unwrap().split(" cwd").next().unwrap().to_owned()
    };
    assert_eq!(env("FROM a\nARG V=1\nENV V=2\nRUN x", &arguments(&[("V", "3")])), "[\"V=2\"]");
    assert_eq!(env("FROM a\nENV V=2\nARG V=1\nRUN x", &request()), "[\"V=1\"]");
    assert_eq!(env("FROM a\nENV A=1 B=$A\nENV A=2 C=$A\nRUN x", &request()), "[\"A=2\", \"B=\", \"C=1\"]");
    assert_eq!(env("FROM a\nARG HTTP_PROXY\nRUN x", &arguments(&[("HTTP_PROXY", "p")])), "[\"HTTP_PROXY=p\"]");
    assert_eq!(env("FROM a\nRUN x", &arguments(&[("HTTP_PROXY", "p")])), "[]");
}

#[test]
fn onbuild_of_images_comes_first() {
    let mut recorder = Recorder::default();
    let base =
        json!({"config": {"OnBuild": ["COPY --from=tools /t /t", "RUN first"], "User": "me", "WorkingDir": "rel"}});
    recorder.images.insert("onbuild".into(), base);
    let image = with("FROM onbuild\nRUN second\n", &request(), &mut recorder).remove(0);
    assert_eq!(
        recorder.log,
        [
            "resolve onbuild linux/amd64",
            "resolve tools linux/amd64",
            "t1 = image onbuild",
            "t2 = image tools",
            r#"t3 = t1 copy t2 ["/t"] -> "/t""#,
            r#"t4 = t3 run ["/bin/sh", "-c", "first"] env=[] cwd=/rel user="me""#,
            r#"t5 = t4 run ["/bin/sh", "-c", "second"] env=[] cwd=/rel user="me""#,
        ]
    );
    assert_eq!(
        recorder.names,
        ["[2/4] ONBUILD COPY --from=tools /t /t", "[3/4] ONBUILD RUN first", "[4/4] RUN second"]
    );
    assert_eq!(image.config["config"]["OnBuild"], Value::Null);
    let mut bad = Recorder::default();
    bad.images.insert("onbuild".into(), json!({"config": {"OnBuild": ["ONBUILD RUN x"]}}));
    let fault = try_with("# c\nFROM onbuild\n", &request(), &mut bad).err().unwrap();
    assert_eq!(fault.place.unwrap().span.line, 2);
}

#[test]
fn steps_have_names_and_places() {
    let mut recorder = Recorder::default();
    let text = "FROM a AS build\nENV N=v\nCOPY \"x\" /$N \nRUN echo $N \"$U\" \\\n  more\nWORKDIR /\nFROM scratch\ncopy --from=build /v /v\n";
    with(text, &request(), &mut recorder);
    assert_eq!(
        recorder.names,
        ["[build 2/4] COPY x /v", "[build 3/4] RUN echo v \"$U\"   more", "[stage-1 1/1] COPY --from=build /v /v"]
    );
    let place = &recorder.places[1];
    assert_eq!((place.file.as_str(), place.span.line, place.span.end_line), ("Dockerfile", 4, 5));
    assert_eq!(place.text, "RUN echo $N \"$U\" \\\n  more");
}

#[test]
fn copies_in_all_forms() {
    check(
        "FROM scratch\nARG O=u:g\nWORKDIR /w\nCOPY --chown=$O --chmod=u+x --link --exclude=*.o ../a b* d/\nADD a.tar /\nADD --unpack=false a.tar .\nCOPY --parents x/./y /z/\nCOPY [\"a b\", \"c d/\"]\n",
        &request(),
        r#"
        t1 = scratch
        t2 = t1 mkdir /w 755 None
        t3 = context ""
        t4 = t2 copy t3 ["/a", "/b*"] -> "/w/d/" link owner=u:g mode=u+x exclude=["*.o"]
        t5 = t4 copy t3 ["/a.tar"] -> "/" unpack
        t6 = t5 copy t3 ["/a.tar"] -> "/w/"
        t7 = t6 copy t3 ["x/./y"] -> "/z/" parents
        t8 = t7 copy t3 ["/a b"] -> "/w/c d/"
        "#,
    );
}

#[test]
fn heredocs_become_files_and_scripts() {
    check(
        "FROM scratch AS s\nENV V=1\nCOPY <<A <<'B' x /d/\n\"$V\" \\$V\nA\n$V\nB\nRUN <<-E\n\techo $V\nE\nRUN <<E\n#!/bin/awk\n{}\nE\nRUN cat <<E >/x\nbody\nE\n",
        &request(),
        r##"
        t1 = scratch
        t2 = context ""
        t3 = t1 copy t2 ["/x"] -> "/d/"
        t4 = scratch
        t5 = t4 write /A 644 "\"1\" $V\n"
        t6 = t5 write /B 644 "$V\n"
        t7 = t3 copy t6 ["/A", "/B"] -> "/d/"
        t8 = t7 run ["/bin/sh", "-c", "echo $V\n"] env=["V=1"] cwd=/ user=""
        t9 = scratch
        t10 = t9 write /E 755 "#!/bin/awk\n{}\n"
        t11 = t8 run ["/bin/sh", "-c", "/dev/pipes/E"] env=["V=1"] cwd=/ user="" [bind "/dev/pipes" t10 path="" id="" ro=true []]
        t12 = t11 run ["/bin/sh", "-c", "cat <<E >/x\nbody\nE"] env=["V=1"] cwd=/ user=""
        "##,
    );
}

#[test]
fn mounts_map_onto_the_contract() {
    check(
        "FROM a AS src\nFROM a\nWORKDIR /w\nARG ID=n\nRUN --network=none --mount=target=s --mount=type=bind,from=src,source=/x/,target=/t,rw --mount=type=cache,target=c/,sharing=locked,uid=5 --mount=type=tmpfs,target=/m,size=1k --mount=type=secret,id=$ID,required --mount=type=secret,id=q,env=Q x\n",
        &request(),
        r#"
        resolve a linux/amd64
        t1 = image a
        t2 = image a
        t3 = t2 mkdir /w 755 None
        t4 = context ""
        t5 = t3 run ["/bin/sh", "-c", "x"] env=["ID=n"] cwd=/w user="" network=None [bind "/w/s" t4 path="" id="" ro=true []] [bind "/t" t1 path="/x" id="" ro=false []] [cache "/w/c" path="" id="c" ro=false [("uid", "5"), ("sharing", "locked")]] [tmpfs "/m" path="" id="" ro=false [("size", "1024")]] [secret "/run/secrets/n" path="n" id="" ro=true [("required", "true")]] [secret "" path="q" id="" ro=true [("env", "Q")]]
        "#,
    );
}

#[test]
fn named_images_take_the_place_of_images_and_stages_and_keep_their_configuration() {
    let mut recorder = Recorder { contexts: vec!["both".into()], ..Recorder::default() };
    recorder.images.insert("stage".into(), json!({ "config": { "User": "theirs" } }));
    let text = "FROM image AS stage\nRUN never\nFROM other AS unused\nFROM stage\nCOPY --from=both a /a\n";
    let request = Request { images: vec!["stage".into(), "both".into()], ..request() };
    let image = with(text, &request, &mut recorder).remove(0);
    assert_eq!(recorder.log[0], "resolve both linux/amd64, stage linux/amd64");
    assert!(recorder.log.iter().all(|line| !line.contains("never") && !line.contains("context")), "{:?}", recorder.log);
    assert_eq!(image.config["config"]["User"], "theirs");
    let latest = Request { images: vec!["stage".into()], ..request };
    let mut recorder = Recorder::default();
    with("FROM stage:latest\n", &latest, &mut recorder);
    assert_eq!(recorder.log[0], "resolve stage linux/amd64");
}

#[test]
fn named_contexts_take_the_place_of_images_and_stages() {
    let mut recorder =
        Recorder { contexts: vec!["base".into(), "tools".into(), "stage".into()], ..Recorder::default() };
    let text =
        "FROM image AS stage\nRUN never\nFROM base:latest\nCOPY --from=tools a /a\nCOPY --from=stage b /b\nCOPY c /c\n";
    let request = Request { ignore: vec!["*.o".into()], ..request() };
    let image = with(text, &request, &mut recorder).remove(0);
    let log: Vec<&str> = recorder.log.iter().map(|line| line.split_once(" = ").unwrap().1).collect();
    assert_eq!(
        log,
        [
            "context \"base\"",
            "context \"tools\"",
            "context \"stage\"",
            "scratch",
            "t4 copy t3 [\"/\"] -> \"/\"",
            "scratch",
            "t6 copy t1 [\"/\"] -> \"/\"",
            "t7 copy t2 [\"/a\"] -> \"/a\"",
            "t8 copy t5 [\"/b\"] -> \"/b\"",
            "context \"\" without [\"*.o\"]",
            "t9 copy t10 [\"/c\"] -> \"/c\"",
        ]
    );
    let operations = created_by(&image.config).iter().filter(|entry| entry.starts_with('+')).count();
    assert_eq!(operations, 4, "one entry for each operation on the way from scratch");
}

#[test]
fn every_platform_gets_an_image_and_all_bases_one_question() {
    let arm = Platform::new("linux", "arm64", None);
    let request = Request { platforms: vec![amd64(), arm.clone()], ..request() };
    let text = "FROM --platform=$BUILDPLATFORM go AS build\nARG TARGETARCH\nRUN build $TARGETARCH\nFROM alpine\nCOPY --from=build /o /o\n";
    let mut recorder = Recorder::default();
    let images = with(text, &request, &mut recorder);
    assert_eq!(recorder.log[0], "resolve alpine linux/amd64, alpine linux/arm64, go linux/amd64");
    assert_eq!(images[1].platform, arm);
    let bare = with("FROM --platform=linux/s390x x", &request, &mut Recorder::default());
    assert_ne!(bare[0].tree, bare[1].tree, "each image has a handle of its own");
    assert_eq!(images[1].config["architecture"], "arm64");
    assert_eq!(recorder.names[0], "[linux/amd64 build 2/2] RUN build amd64");
    assert_eq!(recorder.names[2], "[linux/amd64->linux/arm64 build 2/2] RUN build arm64");
    let single = config("FROM --platform=linux/arm64 x", &Request { platforms: vec![amd64()], ..request });
    assert_eq!(single["architecture"], "arm64", "nobody asked for another platform");
}

#[test]
fn metadata_is_assembled() {
    let text = "FROM scratch\nMAINTAINER Me <m@x>\nENV A=1 \"B c\"=2\nLABEL l=\"x y\" m=${A}\nEXPOSE 53/udp 8000-8001 $A\nVOLUME [\"/v 1\", \"/$A\"]\nVOLUME /c /d\nUSER u:$A\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s --retries=3 CMD curl x\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT run $A\nCMD a b\nONBUILD RUN x\n";
    let request = Request { labels: vec![("extra".into(), "e".into())], epoch: Some(86_400), ..request() };
    let config = config(text, &request);
    assert_eq!(
        config["config"],
        json!({
            "Env": [format!("PATH={}", crate::config::DEFAULT_PATH), "A=1", "B c=2"], "WorkingDir": "/",
            "Labels": {"l": "x y", "m": "1", "extra": "e"},
            "ExposedPorts": {"53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "1/tcp": {}},
            "Volumes": {"/v 1": {}, "/1": {}, "/c": {}, "/d": {}}, "User": "u:1", "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 5_000_000_000u64, "Retries": 3},
            "Shell": ["/bin/bash", "-c"], "Entrypoint": ["/bin/bash", "-c", "run $A"], "Cmd": ["/bin/bash", "-c", "a b"],
            "OnBuild": ["RUN x"],
        })
    );
    assert_eq!(config["author"], "Me <m@x>");
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
    assert_eq!(
        created_by(&config),
        [
            "- MAINTAINER Me <m@x>",
            "- ENV A=1 B c=2",
            "- LABEL l=x y m=1",
            "- EXPOSE [1/tcp 53/udp 8000/tcp 8001/tcp]",
            "- VOLUME [/v 1 /1]",
            "- VOLUME [/c /d]",
            "- USER u:1",
            "- STOPSIGNAL SIGINT",
            "- HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:5s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}",
            "- SHELL [/bin/bash -c]",
            "- ENTRYPOINT [\"/bin/bash\" \"-c\" \"run $A\"]",
            "- CMD [\"/bin/bash\" \"-c\" \"a b\"]",
        ]
    );
    let entry = &config["history"][0];
    assert_eq!(
        (entry["comment"].as_str(), entry["created"].as_str()),
        (Some("cooperage.dockerfile.v0"), Some("1970-01-02T00:00:00Z"))
    );
}

#[test]
fn faults_name_the_line_and_what_helps() {
    let check = |text: &str, part: &str, hint: &str, line: u32, column: u32| {
        let fault = fault(text, &request());
        assert!(fault.message.contains(part), "{text}: {}", fault.message);
        assert!(fault.hint.as_deref().unwrap_or_default().contains(hint), "{text}: {:?}", fault.hint);
        let place = fault.place.unwrap();
        assert_eq!((place.span.line, place.span.column), (line, column), "{text}");
    };
    check("FROM $NOPE", "$NOPE in FROM is empty", "ARG NOPE=", 1, 6);
    check("ARG NAME=x\nFROM ${NMAE}", "is empty", "did you mean NAME?", 2, 6);
    check("FROM Ubuntu:20", "lower case", "did you mean ubuntu?", 1, 6);
    let text = "FROM a AS missing1\nFROM b\nCOPY --from=missing a b";
    let hint = "did you mean missing1? It is a stage of this Dockerfile; if an image is meant, pull it";
    check(text, "does not exist", hint, 3, 0);
    check("FROM a\nRUN --mount=type=bnd,target=/x y", "unknown type", "did you mean bind?", 2, 5);
}

#[test]
fn references_must_exist_and_come_before() {
    let check = |text: &str, part: &str| {
        let fault = fault(text, &request());
        assert!(fault.message.contains(part), "{text}: {}", fault.message);
        assert!(fault.place.is_some(), "{text}");
    };
    check("FROM a AS x\nCOPY --from=x a b", "refers to itself");
    check("FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nCOPY --from=x a b\nFROM x", "circular");
    check("FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nFROM x", "comes later");
    check("FROM a\nCOPY --from=1 a b", "no stage 1");
    check("FROM a\nCOPY --from=$X a b", "does not expand");
    check("FROM --platform=a/b/c/d x", "invalid platform");
    check("FROM a\nADD git@x:y/z.git /z", "only HTTP");
    check("FROM a\nADD --checksum=sha256:00 https://x/y a /z/", "only source");
    check("FROM a\nCOPY https://x/y /z", "cannot be a URL");
    check("FROM a\nCOPY --chmod=9 a b", "invalid --chmod");
    check("FROM a\nEXPOSE 99999", "invalid port");
    check("FROM a\nSTOPSIGNAL NOPE", "no signal");
    check("FROM a\nENV A=${B:?none}", "none");
    check("FROM a\nENV A=\"x", "never closed");
    check("FROM a\nRUN []", "needs a command");
    check("FROM a\nRUN --mount=target=/ x", "cannot be /");
    check("FROM missing", "does not exist");
}

#[test]
fn urls_are_fetched_and_copied() {
    let text = "FROM a\nARG V=1\nADD --chmod=755 --checksum=sha256:00 https://x.example/tool-$V.tgz?a=b /bin/\n\
        ADD https://x.example/y.git#v2:docs file https://x.example/ /z/\nADD --unpack=true ftp://x.example/a.tar /\n";
    let mut recorder = Recorder::default();
    with(text, &request(), &mut recorder);
    assert_eq!(
        recorder.log[2..],
        [
            r#"t2 = fetch https://x.example/tool-1.tgz?a=b {"checksum":"sha256:00","filename":"tool-1.tgz"}"#,
            r#"t3 = t1 copy t2 ["/tool-1.tgz"] -> "/bin/" mode=755"#,
            r#"t4 = fetch https://x.example/y.git#v2:docs {}"#,
            r#"t5 = t3 copy t4 ["/"] -> "/z/""#,
            r#"t6 = fetch https://x.example/ {"filename":"download"}"#,
            r#"t7 = t5 copy t6 ["/download"] -> "/z/""#,
            r#"t8 = context """#,
            r#"t9 = t7 copy t8 ["/file"] -> "/z/" unpack"#,
            r#"t10 = fetch ftp://x.example/a.tar {"filename":"a.tar"}"#,
            r#"t11 = t9 copy t10 ["/a.tar"] -> "/" unpack"#,
        ]
    );
}

#[test]
fn odd_things_are_said_once() {
    let arm = Platform::new("linux", "arm64", None);
    let request =
        Request { platforms: vec![amd64(), arm], arguments: vec![("VERSOIN".into(), "1".into())], ..request() };
    let text = "FROM a\nARG VERSION EMPTY\nENV A=$VERSION$EMPTY B=$VERISON\nCOPY a b /c\nCMD x\n";
    let mut recorder = Recorder::default();
    with(text, &request, &mut recorder);
    assert_eq!(
        recorder.warnings,
        [
            "Dockerfile:3: the variable $VERISON is not set (UndefinedVar)",
            "Dockerfile:4: several sources are copied to \"/c\", which should end in / to be a directory in any case (CopyDestinationNotDirectory)",
            "Dockerfile:5: a JSON array is recommended for CMD: the shell in between does not pass on signals (JSONArgsRecommended)",
            "the build argument VERSOIN is used by no ARG of the Dockerfile; did you mean VERSION?",
        ]
    );
    let strict = fault(&format!("# check=skip=UndefinedVar;error=true\n{text}"), &request);
    assert!(strict.message.contains("CopyDestinationNotDirectory"), "{strict}");
    assert_eq!(strict.place.unwrap().span.line, 5);
}
