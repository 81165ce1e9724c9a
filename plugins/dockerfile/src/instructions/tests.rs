use super::*;

fn one(line: &str) -> Command {
    let mut dockerfile = read(&format!("FROM a\n{line}\n")).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    dockerfile.stages[0].steps.remove(0).command
}

fn wrong(text: &str) -> Fault {
    read(text).expect_err(text)
}

#[test]
fn reads_stages() {
    let dockerfile = read("ARG V=1\nFROM --platform=$BUILDPLATFORM base:$V as Build\nFROM scratch\n").unwrap();
    assert_eq!(dockerfile.globals.len(), 1);
    let build = &dockerfile.stages[0];
    assert_eq!((build.name.as_deref(), build.base.text.as_str()), (Some("build"), "base:$V"));
    assert_eq!(build.platform.as_ref().unwrap().text, "$BUILDPLATFORM");
    assert_eq!(dockerfile.stages[1].name, None);
}

#[test]
fn reads_copies() {
    let Command::Copy(copy) =
        one("COPY --from=x --chown=u:g --chmod=755 --link --parents --exclude=a --exclude=b s t /d/")
    else {
        panic!()
    };
    assert_eq!(copy.sources.iter().map(|w| w.text.as_str()).collect::<Vec<_>>(), ["s", "t"]);
    assert_eq!((copy.destination.text.as_str(), copy.link, copy.parents, copy.exclude.len()), ("/d/", true, true, 2));
    let Command::Copy(copy) = one("ADD --unpack=false [\"a b\", \"/c d\"]") else { panic!() };
    assert_eq!((copy.add, copy.unpack, copy.sources[0].text.as_str()), (true, Some(false), "a b"));
    let Command::Copy(copy) = one("COPY <<-A <<'B' c /d/\n\tone\nA\n$two\nB") else { panic!() };
    let inline = |name: &str, content: &str, expand| Inline { name: name.into(), content: content.into(), expand };
    assert_eq!(copy.inline, [inline("A", "one\n", true), inline("B", "$two\n", false)]);
    assert_eq!(copy.sources.len(), 1);
}

#[test]
fn reads_commands_and_health() {
    assert!(matches!(one("CMD [\"a\", \"b\"]"), Command::Cmd(line) if !line.shell && line.words == ["a", "b"]));
    assert!(matches!(one("ENTRYPOINT a b"), Command::Entrypoint(line) if line.shell && line.words == ["a b"]));
    assert!(matches!(one("CMD"), Command::Cmd(line) if line.shell && line.words.is_empty()));
    let Command::Healthcheck(health) = one("HEALTHCHECK --interval=1m --retries=3 CMD curl x") else { panic!() };
    assert_eq!((health.interval, health.retries), (60_000_000_000, 3));
    assert_eq!(health.test, ["CMD-SHELL", "curl x"]);
    assert!(matches!(one("HEALTHCHECK none"), Command::Healthcheck(health) if health.test == ["NONE"]));
    assert!(matches!(one("ONBUILD  RUN <<E\nx\nE"), Command::Onbuild(text) if text == "RUN <<E\nx\nE"));
    assert!(matches!(one("RUN --network=none --mount=type=cache,target=/c x"), Command::Run(run)
        if run.network == Network::None && run.mounts.len() == 1));
}

#[test]
fn faults_say_where_and_what_helps() {
    let check = |text: &str, part: &str, hint: &str, line: u32| {
        let fault = wrong(text);
        assert!(fault.message.contains(part), "{text}: {fault}");
        assert!(fault.hint.as_deref().unwrap_or_default().contains(hint), "{text}: {:?}", fault.hint);
        assert_eq!(fault.span.unwrap().line, line, "{text}");
    };
    check("FROM a\nRNU x", "unknown instruction \"RNU\"", "did you mean RUN?", 2);
    check("FROM a\nCOPY --form=x a b", "unknown flag --form", "did you mean --from?", 2);
    check("FROM a\n\nCOPY a", "requires at least two", "DESTINATION", 3);
    check("RUN x", "before the first FROM", "scratch", 1);
    check("ARG x", "no FROM", "scratch", 1);
    check("FROM", "requires the name", "scratch", 1);
    check("FROM a b", "one or three", "AS NAME", 1);
    check("FROM a AS 1x", "invalid name", "begins with a letter", 1);
    check("FROM a\nCMD --x y", "unknown flag --x", "no flags", 2);
    check("FROM a\nCOPY --from a b", "needs a value", "--from=VALUE", 2);
    check("FROM a\nCOPY --link --link a b", "given twice", "", 2);
    check("FROM a\nHEALTHCHECK --interval=1 CMD x", "invalid duration", "30s", 2);
    check("FROM a\nHEALTHCHECK --interval=1ns CMD x", "less than 1ms", "", 2);
    check("FROM a\nHEALTHCHECK RUN x", "unknown type", "CMD", 2);
    check("FROM a\nONBUILD ONBUILD RUN x", "not allowed", "", 2);
    check("FROM a\nONBUILD FROM x", "not allowed", "", 2);
    check("FROM a\nSHELL bash", "JSON array", "SHELL [", 2);
    check("FROM a\nRUN --security=insecure x", "not supported", "", 2);
    check("FROM a\nRUN --mount=from=$X x", "does not expand", "FROM", 2);
    check("FROM a\nENV =b", "cannot be empty", "", 2);
    check("FROM a\nUSER", "exactly one", "", 2);
    check("FROM a\nCOPY x <<E\nE", "destination", "", 2);
}

#[test]
fn another_syntax_is_not_ignored_in_silence() {
    let rules = |syntax: &str| {
        let warnings = read(&format!("# syntax={syntax}\nFROM a\n")).unwrap().warnings;
        warnings.iter().map(|w| w.rule).collect::<Vec<_>>()
    };
    for ours in ["docker/dockerfile:1", "docker.io/docker/dockerfile:1.4@sha256:0", "docker/dockerfile-upstream:master"]
    {
        assert!(rules(ours).is_empty(), "{ours}");
    }
    assert_eq!(rules("example.com/nix:1"), ["SyntaxIgnored"]);
}

#[test]
fn triggers_are_single_instructions() {
    let span = Span { line: 7, column: 0, end_line: 7 };
    assert!(matches!(
        read_trigger("COPY a /b", span).unwrap(),
        Step { command: Command::Copy(_), span: Span { line: 7, .. }, .. }
    ));
    for text in ["ONBUILD RUN x", "FROM a", "RUN a\nRUN b", "BAD x", ""] {
        assert_eq!(read_trigger(text, span).unwrap_err().span, Some(span), "{text}");
    }
}
