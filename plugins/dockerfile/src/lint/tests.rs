use serde_json::json;

use super::*;
use crate::fault::{Fault, Source};
use crate::instructions;
use crate::plan::{self, Request};
use crate::platform::Platform;
use crate::testing::Recorder;

/// What a Dockerfile is looked at with.
#[derive(Default)]
struct Given<'a> {
    arguments: &'a [(&'a str, &'a str)],
    ignore: &'a [&'a str],
    target: Option<&'a str>,
    /// Build for real, with this configuration of the base `known`.
    base: Option<serde_json::Value>,
}

fn look(text: &str, given: &Given<'_>) -> Result<Vec<(String, String)>, Fault> {
    let source = Source::new("Dockerfile", text);
    let dockerfile = instructions::read(text)?;
    let platform = Platform::new("linux", "amd64", None);
    let request = Request {
        target: given.target.map(str::to_owned),
        platforms: vec![platform.clone()],
        build_platform: platform,
        arguments: given.arguments.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        labels: Vec::new(),
        epoch: None,
        ignore: given.ignore.iter().map(|line| line.to_string()).collect(),
        images: Vec::new(),
        all_stages: given.target.is_none() && given.base.is_none(),
    };
    let mut recorder = Recorder::default();
    let Some(base) = &given.base else {
        let findings = plan::check(&dockerfile, &source, &request, &mut recorder)?;
        assert!(recorder.log.is_empty(), "a check asks for nothing: {:?}", recorder.log);
        let pair = |finding: &_| -> (String, String) {
            let cooperage_sdk::roles::builder::Finding { rule, line, message, .. } = finding;
            (rule.clone(), format!("{line}: {message}"))
        };
        return Ok(findings.iter().map(pair).collect());
    };
    recorder.images.insert("known".into(), base.clone());
    plan::convert(&dockerfile, &source, &request, &mut recorder)?;
    let pair = |line: &String| {
        let (message, rule) = line.strip_prefix("Dockerfile:")?.rsplit_once(" (")?;
        Some((rule.trim_end_matches(')').to_owned(), message.to_owned()))
    };
    Ok(recorder.warnings.iter().filter_map(pair).collect())
}

/// What one rule says, as `LINE: MESSAGE`.
#[track_caller]
fn check_with(given: &Given<'_>, rule: &str, text: &str, expected: &[&str]) {
    assert!(RULES.iter().any(|known| known.name == rule), "{rule}");
    let found = look(text, given).unwrap_or_else(|fault| panic!("{text}\n{fault}"));
    let found: Vec<&str> = found.iter().filter(|(name, _)| name == rule).map(|(_, line)| line.as_str()).collect();
    assert_eq!(found, expected, "{rule} in\n{text}");
}

#[track_caller]
fn check(rule: &str, text: &str, expected: &[&str]) {
    check_with(&Given::default(), rule, text, expected);
}

#[test]
fn stage_name_casing() {
    let rule = "StageNameCasing";
    check(rule, "FROM scratch AS BuildBase", &["1: the stage name BuildBase should be in lower case"]);
    check(rule, "FROM scratch AS build-base_1.x\nFROM build-base_1.x", &[]);
    check(rule, "FROM scratch AS a\nFROM scratch \\\n AS \\\n B", &["4: the stage name B should be in lower case"]);
}

#[test]
fn from_as_casing() {
    let rule = "FromAsCasing";
    check(rule, "FROM scratch as a", &["1: FROM and as differ in case"]);
    check(rule, "from scratch AS a", &["1: from and AS differ in case"]);
    check(rule, "FROM scratch AS a\nfrom scratch as b\nfrom scratch", &[]);
    check(rule, "From scratch as a", &[]);
}

#[test]
fn no_empty_continuation() {
    let rule = "NoEmptyContinuation";
    check(rule, "FROM scratch\nCOPY a \\\n\n /b", &["3: empty continuation line"]);
    check(rule, "FROM scratch\nCOPY a \\\n# why\n /b", &[]);
    check(rule, "FROM scratch\nCOPY <<E /b\n\n\nE\n", &[]);
}

#[test]
fn consistent_instruction_casing() {
    let rule = "ConsistentInstructionCasing";
    let upper =
        |name: &str, line: u32| format!("{line}: {name} should be in upper case, as most instructions here are");
    let lower =
        |name: &str, line: u32| format!("{line}: {name} should be in lower case, as most instructions here are");
    check(rule, "FROM scratch\nENV a=1\ncopy a /b", &[&upper("copy", 3)]);
    check(rule, "FROM scratch\ncopy a /b\ncopy a /b", &[&lower("FROM", 1)]);
    check(rule, "frOM scratch AS a\nFROM a", &[&upper("frOM", 1)]);
    check(rule, "FROM scratch\ncopy a /b", &[&upper("copy", 2)]);
    check(rule, "from scratch\ncopy a /b", &[]);
    check(rule, "arg A=1\narg B=1\nFROM scratch\nCOPY a /b", &[]);
}

#[test]
fn duplicate_stage_name() {
    let rule = "DuplicateStageName";
    check(rule, "FROM scratch AS b\nFROM scratch AS B\n", &["2: an earlier stage is called b, too"]);
    check(rule, "FROM scratch AS a\nFROM scratch AS b\nFROM scratch\nFROM scratch\n", &[]);
    check(
        rule,
        "FROM scratch AS b\nFROM scratch AS b\nFROM scratch AS b",
        &["2: an earlier stage is called b, too", "3: an earlier stage is called b, too"],
    );
}

#[test]
fn reserved_stage_name() {
    let rule = "ReservedStageName";
    check(rule, "FROM scratch AS scratch", &["1: the stage name scratch is reserved"]);
    check(rule, "FROM scratch AS Context", &["1: the stage name context is reserved"]);
    check(rule, "FROM scratch\nFROM scratch AS scratch-2", &[]);
}

#[test]
fn json_args_recommended() {
    let rule = "JSONArgsRecommended";
    let message = |line: u32, keyword: &str| {
        format!("{line}: a JSON array is recommended for {keyword}: the shell in between does not pass on signals")
    };
    check(rule, "FROM scratch\nCMD a", &[&message(2, "CMD")]);
    check(rule, "FROM scratch\nENTRYPOINT a b", &[&message(2, "ENTRYPOINT")]);
    check(rule, "FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"a\"]\nRUN a\nHEALTHCHECK CMD a", &[]);
    check(rule, "FROM scratch AS b\nSHELL [\"s\"]\nFROM b\nCMD a\nENTRYPOINT b", &[]);
    check(rule, "FROM scratch\nCMD a\nSHELL [\"s\"]", &[&message(2, "CMD")]);
    let base = Some(json!({"config": {"Shell": ["powershell"]}}));
    check_with(&Given { base, ..Given::default() }, rule, "FROM known\nCMD a", &[]);
}

#[test]
fn maintainer_deprecated() {
    let rule = "MaintainerDeprecated";
    check(rule, "FROM scratch\nMAINTAINER me", &["2: MAINTAINER is deprecated in favour of a label"]);
    check(rule, "FROM scratch\nLABEL org.opencontainers.image.authors=me maintainer=me", &[]);
    check(rule, "FROM scratch\nCOPY <<E /b\nMAINTAINER me\nE", &[]);
    let given = Given { target: Some("b"), ..Given::default() };
    let unneeded = "FROM scratch AS a\nmaintainer me\nFROM scratch AS b";
    check_with(&given, rule, unneeded, &["2: MAINTAINER is deprecated in favour of a label"]);
}

#[test]
fn undefined_arg_in_from() {
    let rule = "UndefinedArgInFrom";
    let message = "no ARG before the first FROM declares";
    check(rule, "ARG tag=1\nFROM a:$tag${version} AS b", &[&format!("2: FROM uses $version, which {message}")]);
    check(
        rule,
        "FROM --platform=linux/${TARGETARHC:-amd64} a",
        &[&format!("1: FROM uses $TARGETARHC, which {message}; did you mean TARGETARCH?")],
    );
    check(rule, "ARG A\nARG B=1\nFROM --platform=$BUILDPLATFORM a:b${A}$B", &[]);
    check(rule, "FROM scratch\nARG A=1\nFROM a:b$A", &[&format!("3: FROM uses $A, which {message}")]);
}

#[test]
fn workdir_relative_path() {
    let rule = "WorkdirRelativePath";
    let message =
        |line: u32, path: &str| format!("{line}: the relative path {path} depends on the WORKDIR of the base image");
    check(rule, "FROM scratch\nWORKDIR app/\nWORKDIR sub", &[&message(2, "app/")]);
    check(rule, "FROM scratch AS a\nWORKDIR /app\nWORKDIR b\nFROM a\nWORKDIR c", &[]);
    check(rule, "FROM scratch\nENV D=/x\nWORKDIR $D", &[]);
    check(rule, "FROM scratch AS a\nWORKDIR /a\nFROM scratch\nWORKDIR b", &[&message(4, "b")]);
}

#[test]
fn undefined_var() {
    let rule = "UndefinedVar";
    check(rule, "FROM scratch\nCOPY $foo .\nARG foo=1", &["2: the variable $foo is not set"]);
    check(rule, "FROM scratch\nARG foo\nCOPY a$foo .\nRUN echo $bar", &[]);
    check(rule, "FROM scratch AS a\nARG foo=1\nFROM a\nCOPY $foo .", &[]);
    check(rule, "FROM scratch\nENV PATH=$PAHT:/b", &["2: the variable $PAHT is not set; did you mean PATH?"]);
    check(rule, "FROM scratch\nCOPY <<E /f\n$x\nE\nCOPY <<'E' /g\n$y\nE", &["2: the variable $x is not set"]);
    // What an image sets that nobody has looked at is not known.
    check(rule, "FROM a\nENV X=$GOPATH", &[]);
    check(rule, "FROM a\nENV PATH=$PAHT:/b", &["2: the variable $PAHT is not set; did you mean PATH?"]);
    check(rule, "ARG V=1\nFROM a\nLABEL v=$V", &["3: the variable $V is not set"]);
    let given = Given { base: Some(json!({"config": {"Env": ["GOPATH=/go"]}})), ..Given::default() };
    check_with(&given, rule, "FROM known\nENV X=$GOPATH Y=$GOROOT", &["2: the variable $GOROOT is not set"]);
}

#[test]
fn multiple_instructions_disallowed() {
    let rule = "MultipleInstructionsDisallowed";
    let message = |line: u32, keyword: &str, last: u32| {
        format!("{line}: this {keyword} has no effect: only the last one of a stage has, on line {last}")
    };
    check(rule, "FROM scratch\nCMD [\"a\"]\nENV a=1\nCMD [\"b\"]", &[&message(2, "CMD", 4)]);
    check(
        rule,
        "FROM scratch\nENTRYPOINT [\"a\"]\nHEALTHCHECK NONE\nENTRYPOINT [\"b\"]\nHEALTHCHECK CMD b",
        &[&message(2, "ENTRYPOINT", 4), &message(3, "HEALTHCHECK", 5)],
    );
    check(rule, "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\nRUN a\nRUN a", &[]);
}

#[test]
fn legacy_key_value_format() {
    let rule = "LegacyKeyValueFormat";
    check(rule, "FROM scratch\nENV a b", &["2: ENV a VALUE is the old form; write ENV a=VALUE"]);
    check(rule, "FROM scratch\nLABEL a b c", &["2: LABEL a VALUE is the old form; write LABEL a=VALUE"]);
    check(rule, "FROM scratch\nENV a=b c=\"d e\"\nLABEL a=b", &[]);
    let given = Given { target: Some("b"), ..Given::default() };
    check_with(&given, rule, "FROM scratch AS a\nENV a b\nFROM scratch AS b", &[]);
}

#[test]
fn invalid_base_image_platform() {
    let rule = "InvalidBaseImagePlatform";
    let given = |architecture: &str| Given {
        base: Some(json!({"os": "linux", "architecture": architecture})),
        ..Given::default()
    };
    let message = "1: the base image known is for linux/arm64, and linux/amd64 is built";
    check_with(&given("arm64"), rule, "FROM known", &[message]);
    check_with(&given("amd64"), rule, "FROM known", &[]);
    check_with(&given("arm64"), rule, "FROM --platform=linux/arm64 known AS arm64", &[]);
}

#[test]
fn redundant_target_platform() {
    let rule = "RedundantTargetPlatform";
    let message = |word: &str| format!("1: --platform={word} is what FROM does without it");
    check(rule, "FROM --platform=$TARGETPLATFORM scratch", &[&message("$TARGETPLATFORM")]);
    check(rule, "FROM --platform=${TARGETPLATFORM} scratch", &[&message("${TARGETPLATFORM}")]);
    check(rule, "FROM --platform=$BUILDPLATFORM scratch\nFROM scratch", &[]);
    check(rule, "FROM --platform=$TARGETOS/$TARGETARCH scratch", &[]);
}

#[test]
fn secrets_used_in_arg_or_env() {
    let rule = "SecretsUsedInArgOrEnv";
    let message = |line: u32, what: &str| {
        format!("{line}: {what} looks like a secret, which would stay in the image or its history")
    };
    check(
        rule,
        "FROM scratch\nARG SECRET_PASSPHRASE\nENV password=b x=y apikey=",
        &[&message(2, "ARG SECRET_PASSPHRASE"), &message(3, "ENV password"), &message(3, "ENV apikey")],
    );
    check(rule, "FROM scratch\nARG PUBLIC_KEY public_token AUTH_VERSION\nENV PASSWORD_FILE=/x", &[]);
    check(rule, "FROM scratch\nENV keyboard=1 monkey=2 AUTHOR=3 TOKENS=4", &[]);
    check(rule, "ARG TOKEN\nFROM scratch\nARG super_Token_x=1", &[&message(3, "ARG super_Token_x")]);
}

#[test]
fn invalid_default_arg_in_from() {
    let rule = "InvalidDefaultArgInFrom";
    let message = |line: u32, word: &str, result: &str| {
        format!("{line}: without build arguments, {word} gives {result:?}, which is no image")
    };
    let given = Given { arguments: &[("V", "1"), ("IMAGE", "a:1")], ..Given::default() };
    check_with(&given, rule, "ARG V\nFROM busybox:$V", &[&message(2, "busybox:$V", "busybox:")]);
    check_with(&given, rule, "ARG IMAGE\nFROM $IMAGE", &[&message(2, "$IMAGE", "")]);
    check_with(&given, rule, "ARG V=1\nFROM h:5000/a/b:$V@sha256:${X:-0123456789abcdef0123456789abcdef}", &[]);
    check(rule, "ARG V\nFROM busybox:stable${V}\nFROM scratch", &[]);
    check(rule, "ARG V=/\nFROM a$V", &[&message(2, "a$V", "a/")]);
}

#[test]
fn from_platform_flag_const_disallowed() {
    let rule = "FromPlatformFlagConstDisallowed";
    let message = "1: --platform=linux/arm64 is the same whatever platform is built for";
    check(rule, "FROM --platform=linux/arm64 scratch", &[message]);
    check(rule, "FROM --platform=linux/arm64 scratch AS other", &[message]);
    check(
        rule,
        "FROM --platform=linux/arm64 scratch AS arm64-tools\nFROM --platform=linux/arm64 scratch AS linux",
        &[],
    );
    check(rule, "FROM --platform=$BUILDPLATFORM scratch\nFROM --platform=linux/${TARGETARCH} scratch", &[]);
}

#[test]
fn copy_ignored_file() {
    let rule = "CopyIgnoredFile";
    let given = |ignore| Given { ignore, ..Given::default() };
    let message =
        |line: u32, what: &str, path: &str| format!("{line}: {what} names {path}, which the ignore file leaves out");
    let text = "FROM scratch AS a\nCOPY ./tmp/x /\nADD *.o /\nFROM scratch\nCOPY --from=a /tmp/x /";
    check_with(&given(&["tmp", "*.o"]), rule, text, &[&message(2, "COPY", "./tmp/x"), &message(3, "ADD", "*.o")]);
    check_with(&given(&["**", "!tmp"]), rule, text, &[]);
    check_with(&given(&[".*"]), rule, "FROM scratch\nCOPY . /\nCOPY <<.x /\nE\n.x", &[]);
    check_with(&given(&["*"]), rule, "FROM scratch\nCOPY . /", &[&message(2, "COPY", ".")]);
    check_with(&given(&["*"]), rule, "FROM scratch\nADD https://example.com/f /", &[]);
}

#[test]
fn expose_proto_casing() {
    let rule = "ExposeProtoCasing";
    check(
        rule,
        "FROM scratch\nEXPOSE 80/TcP 81/UDP 82/udp",
        &["2: the protocol of 80/TcP should be in lower case", "2: the protocol of 81/UDP should be in lower case"],
    );
    check(rule, "FROM scratch\nEXPOSE 80 80/tcp 80-90/sctp", &[]);
    check(rule, "FROM scratch\nARG P=80/TCP\nEXPOSE $P", &["3: the protocol of 80/TCP should be in lower case"]);
}

#[test]
fn expose_invalid_format() {
    let rule = "ExposeInvalidFormat";
    let message = |port: &str| format!("2: EXPOSE {port} maps an address or a port of the host, which has no effect");
    check(
        rule,
        "FROM scratch\nEXPOSE 127.0.0.1:80:80 5000:5000 8000",
        &[&message("127.0.0.1:80:80"), &message("5000:5000")],
    );
    check(rule, "FROM scratch\nEXPOSE [::1]:80:80", &[&message("[::1]:80:80")]);
    check(rule, "FROM scratch\nEXPOSE 80-81/tcp :82", &[]);
}

#[test]
fn invalid_definition_description() {
    let rule = "InvalidDefinitionDescription";
    let head = "# check=skip=all;experimental=InvalidDefinitionDescription\n";
    let message = |line: u32, keyword: &str, names: &str| {
        format!("{line}: the comment above {keyword} should begin with {names}")
    };
    let on = |text: &str, expected: &[&str]| check(rule, &format!("{head}{text}"), expected);
    on("# bar is it\nARG foo=bar\nFROM scratch", &[&message(3, "ARG", "foo")]);
    on("# BasE is it\nFROM scratch AS BasE", &[&message(3, "FROM", "base")]);
    on("# x\nARG a=1 b=2\nFROM scratch", &[&message(3, "ARG", "a or b")]);
    on("# foo is it\nARG foo\n# b\n# base is it\nFROM scratch AS base\n# c\nCOPY a b\n# d\nARG b=1 d=2", &[]);
    on("# bar\n\nARG foo\n# bar\n#\nARG foo\n# bar\nFROM scratch", &[]);
    check(rule, "# bar is it\nARG foo=bar\nFROM scratch", &[]);
    check(rule, "# check=experimental=all\n# bar\nARG foo=bar\nFROM scratch", &[&message(3, "ARG", "foo")]);
}

#[test]
fn our_own_rules() {
    let array = "CMD looks like a JSON array and is none, so the shell gets it as it is; use double quotes";
    check("ExecFormInvalid", "FROM scratch\nCMD ['a']", &[&format!("2: {array}")]);
    check("ExecFormInvalid", "FROM scratch\nCMD [ -f x ] && y", &[]);
    let several = "several sources are copied to \"/c\", which should end in / to be a directory in any case";
    check("CopyDestinationNotDirectory", "FROM scratch\nCOPY a b /c", &[&format!("2: {several}")]);
    check("CopyDestinationNotDirectory", "FROM scratch\nCOPY a b /c/", &[]);
    let syntax = "the syntax \"example/x\" is not used: this builder reads Dockerfiles itself";
    check("SyntaxIgnored", "# escape=\\\n# syntax=example/x\nFROM scratch", &[&format!("2: {syntax}")]);
}

#[test]
fn comments_say_what_counts() {
    let rules = |text: &str, arguments: &[(&str, &str)]| -> String {
        let given = Given { arguments, ..Given::default() };
        let found = look(text, &given).unwrap_or_else(|fault| panic!("{text}\n{fault}"));
        found.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>().join(" ")
    };
    let both = "FROM scratch as base\ncopy a b\n";
    assert_eq!(rules(both, &[]), "FromAsCasing ConsistentInstructionCasing");
    for none in ["#check=skip=all\n", "# check=error=true;skip = FromAsCasing , ConsistentInstructionCasing\n"] {
        assert_eq!(rules(&format!("{none}{both}"), &[]), "", "{none}");
    }
    let argument = [("BUILDKIT_DOCKERFILE_CHECK", "skip=FromAsCasing")];
    assert_eq!(rules(&format!("# check=skip=all\n{both}"), &argument), "ConsistentInstructionCasing");
    assert_eq!(rules(&format!("# check=nonsense\n{both}"), &argument), "ConsistentInstructionCasing");
    // Above an instruction, for that one alone.
    let single = "FROM scratch\n# check=skip=LegacyKeyValueFormat // as documented\n# more\n\nENV a b\nENV a b\n";
    assert_eq!(rules(single, &[]), "LegacyKeyValueFormat");
    assert_eq!(rules(&single.replace("# more", "#"), &[]), "LegacyKeyValueFormat LegacyKeyValueFormat");
    assert_eq!(rules(&single.replace("skip=", "nonsense="), &[]), "LegacyKeyValueFormat LegacyKeyValueFormat");
}

#[test]
fn wrong_options_are_refused_where_they_stand() {
    for (text, message) in [
        ("# syntax=docker/dockerfile:1\n# check=skip\nFROM scratch", "invalid check option \"skip\""),
        ("# escape=`\n# check=error=yes\nFROM scratch", "the check option error is true or false, not \"yes\""),
        ("\u{feff}# escape=`\n# check=skpi=all\nFROM scratch", "invalid check option \"skpi\""),
    ] {
        let fault = look(text, &Given::default()).unwrap_err();
        assert_eq!((fault.message.as_str(), fault.span.unwrap().line), (message, 2), "{text}");
    }
    let given = Given { arguments: &[("BUILDKIT_DOCKERFILE_CHECK", "error")], ..Given::default() };
    let fault = look("FROM scratch", &given).unwrap_err();
    assert!(fault.message.starts_with("the build argument BUILDKIT_DOCKERFILE_CHECK: invalid"), "{fault}");
}

#[test]
fn stages_are_looked_at_as_they_are_needed() {
    let rule = "UndefinedVar";
    let text = "FROM scratch AS a\nCOPY $x /\nFROM scratch AS b\nCOPY $y /\nFROM a\n";
    let (first, second) = ("2: the variable $x is not set", "4: the variable $y is not set");
    check(rule, text, &[first, second]);
    check_with(&Given { target: Some("b"), ..Given::default() }, rule, text, &[second]);
    check_with(&Given { base: Some(json!({})), ..Given::default() }, rule, text, &[first]);
}

#[test]
fn what_is_odd_is_told_beside_an_error() {
    let text = "FROM --platform=$BULIDPLATFORM scratch";
    let (source, mut recorder) = (Source::new("Dockerfile", text), Recorder::default());
    let platform = Platform::new("linux", "amd64", None);
    let request = Request {
        target: None,
        platforms: vec![platform.clone()],
        build_platform: platform,
        arguments: Vec::new(),
        labels: Vec::new(),
        epoch: None,
        ignore: Vec::new(),
        images: Vec::new(),
        all_stages: true,
    };
    plan::check(&instructions::read(text).unwrap(), &source, &request, &mut recorder).unwrap_err();
    assert!(
        recorder.warnings[0].ends_with("; did you mean BUILDPLATFORM? (UndefinedArgInFrom)"),
        "{:?}",
        recorder.warnings
    );
}

#[test]
fn every_rule_is_described() {
    let page = include_str!("../../README.md");
    for rule in RULES {
        assert!(page.contains(&format!("| `{}` |", rule.name)), "{} is not in the README", rule.name);
    }
}
