// SPDX-License-Identifier: AGPL-3.0-only
//! Lists of tags, whole and in pages. Every client must see all tags, and each once.

use stella_tests::{Bench, Client, Image, Repository, Response, Server, Transport, over};

over! {
    [Plain, Tls]
    crane_lists_every_tag,
    oras_lists_every_tag,
    regctl_lists_every_tag_page_by_page,
    skopeo_lists_every_tag,
}

/// Puts `count` tags on one image, and gives them in byte order.
fn tag(repository: &Repository, count: usize) -> Vec<String> {
    let image = Image::new().build();
    repository.push(&image, "Latest");
    // Upper case sorts before lower case, and 10 before 9.
    let mut tags: Vec<_> = (1..count).map(|number| format!("v{number}")).collect();
    for tag in &tags {
        repository.put_manifest(tag, image.media_type(), image.bytes());
    }
    tags.push("Latest".into());
    tags.sort();
    tags
}

fn tags_of(response: &Response) -> Vec<String> {
    let list = response.json()["tags"].as_array().unwrap().clone();
    list.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

/// The target of `Link: <target>; rel="next"`.
fn next(response: &Response) -> Option<String> {
    let link = response.header("link")?;
    assert!(link.contains("rel=\"next\"") || link.contains("rel=next"), "{link}");
    Some(link.split(['<', '>']).nth(1).unwrap().to_owned())
}

#[test]
fn pages_joined_by_their_links_are_the_whole_list() {
    let mut server = Server::start();
    let repository = server.repository("many/tags");
    let tags = tag(&repository, 53);
    for _ in 0..2 {
        assert_eq!(repository.tags(), tags);
        for size in [1, 7, 53, 54, 1000] {
            let mut request = repository.request("GET", "tags/list").query("n", &size.to_string());
            let mut found = Vec::new();
            loop {
                let page = repository.send(&request).must_be(200);
                let tags = tags_of(&page);
                assert!(tags.len() <= size, "{} tags on a page of {size}", tags.len());
                found.extend(tags);
                match next(&page) {
                    Some(target) => request = stella_tests::Request::get(&target),
                    None => break,
                }
            }
            assert_eq!(found, tags, "in pages of {size}");
        }
        server.restart();
    }
}

#[test]
fn a_page_begins_after_last_which_need_not_be_a_tag() {
    let server = Server::start();
    let repository = server.repository("app");
    let tags = tag(&repository, 20);
    let list = repository.request("GET", "tags/list");
    let after = |last: &str| tags_of(&repository.send(&list.clone().query("last", last)).must_be(200));
    assert_eq!(after("v12"), tags[tags.iter().position(|tag| tag == "v12").unwrap() + 1..]);
    assert_eq!(after("v12a"), after("v12"));
    assert_eq!(after("zzz"), Vec::<String>::new());
    let none = repository.send(&list.clone().query("n", "0")).must_be(200);
    assert_eq!((tags_of(&none), next(&none)), (vec![], None));
    let two = repository.send(&list.clone().query("n", "2").query("last", "v12")).must_be(200);
    assert_eq!(tags_of(&two), after("v12")[..2]);
}

#[test]
fn an_unknown_repository_has_no_list_of_tags() {
    let server = Server::start();
    let repository = server.repository("no/such/repository");
    let answer = repository.send(&repository.request("GET", "tags/list")).must_be(404);
    assert_eq!(answer.json()["errors"][0]["code"], "NAME_UNKNOWN");
}

fn crane_lists_every_tag(over: Transport) {
    let Some(bench) = Bench::with(&[Client::Crane], over) else { return };
    let tags = tag(&bench.server.repository("app"), 130);
    let listed = bench.tool(Client::Crane).run(&format!("ls {}/app", bench.server.host()));
    assert_eq!(listed.lines().collect::<Vec<_>>(), tags);
}

fn oras_lists_every_tag(over: Transport) {
    let Some(bench) = Bench::with(&[Client::Oras], over) else { return };
    let tags = tag(&bench.server.repository("app"), 130);
    let listed = bench.tool(Client::Oras).run(&format!("repo tags --plain-http {}/app", bench.server.host()));
    assert_eq!(listed.lines().collect::<Vec<_>>(), tags);
}

fn regctl_lists_every_tag_page_by_page(over: Transport) {
    let Some(bench) = Bench::with(&[Client::Regctl], over) else { return };
    let tags = tag(&bench.server.repository("app"), 130);
    let regctl = bench.tool(Client::Regctl);
    let mut listed = Vec::new();
    while listed.len() < tags.len() {
        let last = listed.last().map_or_else(String::new, |last| format!("--last {last}"));
        let page = regctl.run(&format!("tag ls --limit 50 {last} {}/app", bench.server.host()));
        assert!(!page.is_empty(), "the list ends after {} tags", listed.len());
        listed.extend(page.lines().map(str::to_owned));
    }
    assert_eq!(listed, tags);
}

fn skopeo_lists_every_tag(over: Transport) {
    let Some(bench) = Bench::with(&[Client::Skopeo], over) else { return };
    let tags = tag(&bench.server.repository("app"), 130);
    let skopeo = bench.tool(Client::Skopeo);
    let listed = skopeo.run(&format!("list-tags docker://{}/app", bench.server.host()));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["Tags"], serde_json::json!(tags));
}
