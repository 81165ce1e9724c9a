//! Lists in pages, from registries that mean well and from others.

mod support;

use cooperage_plugin_oci::client::Actions;
use cooperage_plugin_oci::lists;
use cooperage_sdk::{ErrorKind, Result};
use support::{Script, World, digest, reply, repository, script};

fn tags(world: &World<Script>) -> Result<Vec<String>> {
    let repository = repository("registry.example", "app");
    lists::tags(&world.client(&repository, Actions::Pull))
}

#[test]
fn pages_are_joined_and_sorted() {
    let world = script(|seen| {
        Some(match seen.url.rsplit_once("tags/list").unwrap().1 {
            "" => reply(200)
                .header("Link", r#"</v2/app/tags/list?last=c>; rel="next""#)
                .body(r#"{"name":"app","tags":["c","a","../x"]}"#),
            "?last=c" => reply(200)
                .header("link", r#"<http://registry.example/v2/app/tags/list?last=d>; rel=next"#)
                .body(r#"{"tags":["d","a",5]}"#),
            _ => reply(200).body(r#"{"tags":null}"#),
        })
    });
    assert_eq!(tags(&world).unwrap(), ["a", "c", "d"]);
    assert_eq!(world.lines()[2], "GET https://registry.example/v2/app/tags/list?last=d");
}

#[test]
fn pages_that_do_not_end() {
    let circle = script(|_| Some(reply(200).header("link", "<list>; rel=next").body("{}")));
    assert_eq!(tags(&circle).unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(circle.lines().len(), 1);

    let mut page = 0;
    let endless = script(move |_| {
        page += 1;
        Some(reply(200).header("link", format!("<list?page={page}>; rel=next")).body("{}"))
    });
    assert_eq!(tags(&endless).unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(endless.lines().len(), 1000);
}

#[test]
fn pages_that_are_none() {
    let elsewhere = script(|_| Some(reply(200).header("link", "<https://evil.example/>; rel=next").body("{}")));
    assert_eq!(tags(&elsewhere).unwrap_err().kind, ErrorKind::Denied);
    let huge = script(|_| Some(reply(200).body(vec![b' '; (8 << 20) + 1])));
    assert_eq!(tags(&huge).unwrap_err().kind, ErrorKind::Limit);
    let page = script(|_| Some(reply(200).body("<html>")));
    assert_eq!(tags(&page).unwrap_err().kind, ErrorKind::Unsupported);
    let denied = script(|_| Some(reply(403)));
    assert_eq!(tags(&denied).unwrap_err().kind, ErrorKind::Denied);
}

#[test]
fn referrers_come_from_the_list_or_from_the_tag() {
    let listed = format!(
        r#"{{"manifests":[
            {{"mediaType":"a/b","digest":"{}","size":3,"artifactType":"t/u","annotations":{{"k":"v","n":1}}}},
            {{"mediaType":"a/b","digest":"sha256:short","size":3}},
            {{"mediaType":"a/b","digest":"{}","size":-3}},
            {{"digest":"{}","size":3}}, 7]}}"#,
        digest(b"1"),
        digest(b"2"),
        digest(b"3")
    );
    for status in [200, 404, 405, 400] {
        let body = listed.clone();
        let world = script(move |seen| {
            Some(if seen.url.contains("/referrers/") {
                reply(status).body(if status == 200 { body.clone() } else { String::new() })
            } else {
                assert!(seen.url.ends_with(&digest(b"subject").replace(':', "-")));
                reply(200).body(body.clone())
            })
        });
        let repository = repository("registry.example", "app");
        let found = lists::referrers(&world.client(&repository, Actions::Pull), &digest(b"subject")).unwrap();
        assert_eq!(found.len(), 1, "{status}");
        assert_eq!((found[0].digest.as_str(), found[0].size), (digest(b"1").as_str(), 3));
        let annotation = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found[0].annotations, [annotation("k", "v"), annotation("artifactType", "t/u")]);
    }
}
