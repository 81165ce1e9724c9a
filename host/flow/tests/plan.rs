//! From a file to a plan: edges, order, targets, and that no text at all makes reading panic.

use cooperage_flow::{FlowFile, ImageDependencies, NoImageDependencies, ParseOptions, Plan, Source, StepView};
use proptest::prelude::*;
use std::collections::BTreeMap;

const EXAMPLE: &str = r#"
version: 1
registries:
  pull: registry.company.example
  push: registry.${USER}.company.example
plugins:
  chat: { from: "oci://registry.example/acme/chat:1", allow: { http: ["https://chat.example"], secrets: [CHAT_TOKEN] } }
images:
  company/service:
    push: { override_user: "${USER}" }
    tags:
      latest:
        flow:
          source: { uses: git,        with: { url: "https://git.example/service.git", ref: main } }
          test:   { uses: script,     in: source, with: { image: "busybox", run: "make test" } }
          image:  { uses: dockerfile, in: source, needs: [test], with: { target: prod } }
          push:   { uses: push,       with: { image: "${{ steps.image.image }}" } }
          deploy: { uses: kubernetes, with: { deployment: web, image: "${{ steps.push.reference }}" } }
          notify: { uses: chat,       if: "always()", with: { text: "${{ steps.push.digest }}" } }
  company/os:
    tags:
      latest: { flow: { image: { uses: dockerfile }, push: { uses: push, needs: [image] }, scan: { uses: chat, finally: true } } }
      1.10: { flow: { image: { uses: dockerfile, timeout: 10m, retry: 2 } } }
flow:
  lint: { uses: script }
  image: { uses: script, needs: ["company/os:1.10"] }
"#;

/// As if each Dockerfile named these images.
struct From(&'static [(&'static str, &'static [&'static str])]);

impl ImageDependencies for From {
    fn image_dependencies(&self, step: &StepView<'_>) -> Vec<String> {
        let id = step.id.to_string();
        let images = self.0.iter().filter(|(step, _)| *step == id);
        images.flat_map(|(_, images)| images.iter().map(|image| image.to_string())).collect()
    }
}

fn example() -> FlowFile {
    let options = ParseOptions {
        variables: BTreeMap::from([("USER".to_string(), "ann".to_string())]),
        plugins: None,
        limits: &[],
    };
    FlowFile::parse(Source::new("cooperage.yaml", EXAMPLE), &options).unwrap_or_else(|report| panic!("{report}"))
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.nodes.iter().map(|node| node.id.to_string()).collect()
}

#[test]
fn a_file_is_read_in_full() {
    let file = example();
    assert_eq!(file.registries.push.as_ref().unwrap().value, "registry.ann.company.example");
    assert_eq!(file.plugins[0].allow["secrets"], serde_json::json!(["CHAT_TOKEN"]));
    assert_eq!(file.images[0].push.override_user.as_ref().unwrap().value, "ann");
    let tags: Vec<_> = file.images[1].tags.iter().map(|tag| tag.value.as_str()).collect();
    assert_eq!(tags, ["latest", "1.10"]);
    assert_eq!(file.flows.len(), 4);
    assert!(file.warnings.is_empty());
}

#[test]
fn edges_between_images_come_from_needs_and_from_lines() {
    let from = From(&[(
        "company/service:latest/image",
        &["registry.company.example/company/os", "busybox", "company/os@sha256:00"],
    )]);
    let shown = example().plan(&from).unwrap().to_string();
    let expected = "\
lint                           script
company/service:latest/source  git
company/service:latest/test    script  after company/service:latest/source
company/os:latest/image        dockerfile
company/os:latest/push         push  after company/os:latest/image
company/service:latest/image   dockerfile  after company/service:latest/source, company/service:latest/test, company/os:latest/image, company/os:latest/push
company/service:latest/push    push  after company/service:latest/image
company/service:latest/deploy  kubernetes  after company/service:latest/push
company/service:latest/notify  chat  after company/service:latest/push  if always()
company/os:latest/scan         chat  after company/os:latest/image, company/os:latest/push
company/os:1.10/image          dockerfile
image                          script  after company/os:1.10/image
";
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn an_image_may_build_on_itself_as_it_was_but_two_not_on_each_other() {
    let file = example();
    assert!(file.plan(&From(&[("company/os:latest/image", &["company/os"])])).is_ok());
    let both = From(&[
        ("company/os:latest/image", &["docker.io/company/os:1.10"]),
        ("company/os:1.10/image", &["company/os:latest"]),
    ]);
    let report = file.plan(&both).unwrap_err();
    assert_eq!(
        report.diagnostics()[0].message,
        "these steps wait for each other: company/os:latest/image -> company/os:1.10/image -> company/os:latest/image"
    );
    assert!(report.render(false).contains("as it builds from that image"), "{report}");
}

#[test]
fn the_plan_as_json() {
    let plan = serde_json::to_value(example().plan(&NoImageDependencies).unwrap()).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["id"] == "company/os:1.10/image").unwrap();
    assert_eq!(
        *step,
        serde_json::json!({
            "id": "company/os:1.10/image", "image": "company/os", "tag": "1.10", "step": "image",
            "key": "company/os:1.10/image", "matrix": null, "uses": "dockerfile", "if": null,
            "finally": false, "continue_on_error": false, "timeout": 600.0, "attempts": 3, "after": [],
        })
    );
    let notify = steps.iter().find(|step| step["step"] == "notify").unwrap();
    assert_eq!(
        notify["after"],
        serde_json::json!([{ "step": "company/service:latest/push", "because": "reference", "data": true }])
    );
}

#[test]
fn targets() {
    let plan = example().plan(&NoImageDependencies).unwrap();
    let check = |targets: &[&str], expected: Result<&[&str], &str>| {
        let selected = plan.select(targets).map(|plan| ids(&plan)).map_err(|error| error.to_string());
        assert_eq!(
            selected,
            expected.map(|ids| ids.iter().map(|id| id.to_string()).collect()).map_err(str::to_string),
            "{targets:?}"
        );
    };
    let service =
        |steps: &[&str]| steps.iter().map(|step| format!("company/service:latest/{step}")).collect::<Vec<_>>();
    assert_eq!(plan.select::<&str>(&[]).unwrap().nodes.len(), 12);
    check(&["lint"], Ok(&["lint"]));
    check(&["image"], Ok(&["company/os:1.10/image", "image"]));
    check(&["company/os:1.10"], Ok(&["company/os:1.10/image"]));
    check(&["company/os:latest/image"], Ok(&["company/os:latest/image", "company/os:latest/scan"]));
    check(
        &["company/os"],
        Ok(&["company/os:latest/image", "company/os:latest/push", "company/os:latest/scan", "company/os:1.10/image"]),
    );
    assert_eq!(ids(&plan.select(&["test"]).unwrap()), service(&["source", "test"]));
    assert_eq!(
        ids(&plan.select(&["company/service:latest/push"]).unwrap()),
        service(&["source", "test", "image", "push", "notify"])
    );
    check(&["lint", "tset"], Err("there is no image, tag or step `tset`: did you mean `test`?"));
    check(
        &["push"],
        Err(
            "`push` is a step of several flows: write one of `company/service:latest/push` and `company/os:latest/push`",
        ),
    );
    check(
        &["x"],
        Err(
            "there is no image, tag or step `x`: there are `company/os:1.10`, `company/os:latest`, `company/service:latest`, `image` and `lint`",
        ),
    );
}

#[test]
fn what_is_nested_or_repeated_without_end_is_refused_in_time() {
    let bomb = (1..30).fold("a0: &a0 [x, x, x, x]\n".to_string(), |text, n| {
        let p = n - 1;
        text + &format!("a{n}: &a{n} [*a{p}, *a{p}, *a{p}, *a{p}]\n")
    });
    let cel = |inner: &str| format!("version: 1\nflow: {{ a: {{ uses: x, if: \"{inner}\" }} }}\n");
    let texts = [
        bomb,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        (0..5000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        "- ".repeat(100_000),
        cel(&"(".repeat(4000)),
        cel(&"!".repeat(4000)),
        cel(&"[".repeat(4000)),
        cel(&format!("true{}", " && true".repeat(400))),
        format!("version: 1\nflow:\n{}", (0..2001).map(|n| format!("  s{n}: {{ uses: x }}\n")).collect::<String>()),
    ];
    for text in texts {
        let result = FlowFile::parse(Source::new("f", text.as_str()), &ParseOptions::default());
        if let Ok(file) = result {
            let plan = file.plan(&NoImageDependencies);
            assert!(text.contains("&& true") || plan.is_err(), "{}", &text[..40]);
        }
    }
}

fn survives(text: &str) {
    let show = |report: cooperage_flow::Report| {
        assert!(report.has_errors() && !report.render(true).is_empty());
        serde_json::to_string(&report).unwrap();
    };
    match FlowFile::parse(Source::new("f", text), &ParseOptions::default()) {
        Ok(file) => {
            let _ = file.plan(&NoImageDependencies).map_err(show);
        }
        Err(report) => show(report),
    }
}

/// Lines that mean something, in any order and with anything between.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "version: 1\n",
        "flow:\n",
        "  a: ",
        "  b: ",
        "{ uses: x",
        ", in: a",
        ", needs: [b]",
        ", if: failure()",
        ", inputs: { x: a }",
        ", matrix: { v: [1, 2], os: [a, b] }",
        ", matrix: { v: [1], include: [{ v: 2, w: x }], exclude: [{ v: 1 }] }",
        ", matrix: { v: ",
        ", max_parallel: 1",
        "[{ v: 1 }, ",
        ", with: { 'n${{ matrix.v }}': '${{ matrix.w }}' }",
        " }\n",
        "\n",
        "    ",
        "- ",
        ", with: { x: '${{ steps.a.y }}' }",
        "${{",
        "}}",
        "steps[\"é\"].x",
        "'",
        "\"",
        "|\n",
        ">-\n",
        "&x ",
        "*x",
        "<<: *x",
        "\\u00e9",
        "é",
        "\t",
        "? ",
        ": ",
        "!!str ",
        "images:\n",
        "  c/d:\n",
        "    tags: { 1.0: { flow: ",
        "}",
        "]",
        "timeout: 1s",
        "retry: 3",
        "finally: true",
        "---\n",
        "${USER",
        "$${",
        "\u{feff}",
        "\u{0}",
        "\r\n",
        "# c\n",
        "\u{1b}[31m",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn no_mixture_of_yaml_makes_reading_panic(text in fragments()) {
        survives(&text);
    }

    #[test]
    fn no_expression_makes_reading_panic(text in "[a-c.\\[\\]()'\"+&|!?:{}$ é0-9\\\\]{0,40}") {
        survives(&format!("version: 1\nflow:\n  a:\n    uses: x\n    if: |\n      {text}\n    with:\n      t: |\n        ${{{{ {text} }}}}\n"));
    }
}
