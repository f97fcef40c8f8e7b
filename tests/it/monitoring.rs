// SPDX-License-Identifier: AGPL-3.0-only
//! What `deploy/` watches a registry by: every metric that the dashboard and the alerts name is there, a
//! real Prometheus scrapes a real server, and each panel has something to show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stella_tests::{
    Artifact, Client, Image, Process, Request, Response, Server, Transport, Workshop, noise, poll,
};

/// A file of `deploy/`.
fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(deployed(name)).unwrap()
}

/// The queries of the dashboard's panels, each with the panel's title.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    };
    panels.iter().flat_map(targets).collect()
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("stella_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// A server that speaks TLS and whose metrics have a listener of their own.
fn watched() -> Server {
    Server::over(Transport::Tls, &[("STELLA_METRICS__LISTEN", "127.0.0.1:0")])
}

/// Does a bit of everything that is counted.
fn use_it(server: &Server, round: u64) {
    let repository = server.repository("team/app");
    let image = Image::sample(round).build();
    repository.push(&image, &format!("t{round}"));
    repository.pull(&format!("t{round}"));
    repository.push(&Artifact::new("application/x.test").subject(&image).file(b"x").build(), "artifact");
    assert!(!repository.referrers(image.digest()).is_empty());
    let blob = repository.push_blob(&noise(round, 100_000));
    server.repository("other").mount(&blob, Some("team/app")).must_be(201);
    repository.tags();
    repository.upload();
    server.send(&Request::get("/v2/_catalog")).must_be(200);
}

#[test]
fn every_metric_that_is_watched_is_there() {
    let server = watched();
    use_it(&server, 1);
    let page = Request::get("/metrics").send(&server.metrics_host()).must_be(200).body;
    let page = String::from_utf8(page).unwrap();
    let there: BTreeSet<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let dashboard: String = queries().into_iter().map(|(_, query)| query + "\n").collect();
    let watched = metrics_in(&dashboard).into_iter().chain(metrics_in(&read("prometheus/alerts.yml")));
    let missing: Vec<_> = watched.filter(|name| !there.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not on the page of metrics: {missing:?}\n{page}");
}

#[test]
fn the_rules_of_prometheus_are_right() {
    let Some(workshop) = Workshop::with(&[Client::Prometheus]) else { return };
    let promtool = workshop.program("promtool");
    for name in ["prometheus.yml", "alerts.yml", "alerts.test.yml"] {
        workshop.write(name, fs::read(deployed("prometheus").join(name)).unwrap());
    }
    promtool.run("check config prometheus.yml");
    promtool.run("check rules alerts.yml");
    promtool.run("test rules alerts.test.yml");
}

#[test]
fn a_real_prometheus_has_something_to_show_in_each_panel() {
    let Some(workshop) = Workshop::with(&[Client::Prometheus]) else { return };
    let server = watched();
    let config = read("prometheus/prometheus.yml");
    let scraped = &server.metrics_host();
    let config = config.replace("127.0.0.1:5001", scraped).replace("_interval: 15s", "_interval: 1s");
    assert!(config.contains(scraped));
    workshop.write("prometheus.yml", config);
    workshop.write("alerts.yml", read("prometheus/alerts.yml"));
    let flags = "--config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=127.0.0.1:0 --log.format=json";
    let mut command = workshop.program("prometheus").flags(flags).command();
    let mut prometheus = Process::start("prometheus", &mut command, &workshop.path("prometheus.log"));
    let host = poll("prometheus to listen", Duration::from_mins(1), || {
        assert!(prometheus.ended().is_none(), "prometheus ended at once");
        let said = prometheus.said();
        let line = said.lines().find(|line| line.contains("\"Listening on\""))?;
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str().map(str::to_owned)
    });
    let ask = |what: &str| -> Option<Value> {
        let answer: Response = Request::get(what).send(&host);
        (answer.status == 200).then(|| answer.json()["data"].clone())
    };

    let mut round = 0;
    poll("a rate to be known", Duration::from_mins(1), || {
        round += 1;
        use_it(&server, round);
        let scraped = ask(&query("count_over_time(up{job=\"stella\"}[1m]) >= 5"))?;
        scraped["result"].as_array().is_some_and(|found| !found.is_empty()).then_some(())
    });
    let mut empty = queries();
    assert!(empty.len() > 40, "{}", empty.len());
    poll("each panel to have data", Duration::from_mins(1), || {
        round += 1;
        use_it(&server, round);
        empty.retain(|(_, expression)| {
            let asked = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
            let found = ask(&query(&asked)).unwrap_or_else(|| panic!("prometheus refuses {asked}"));
            let results = found["result"].as_array().unwrap();
            !results.iter().any(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN"))
        });
        if !empty.is_empty() {
            eprintln!("still empty: {empty:?}");
        }
        empty.is_empty().then_some(())
    });
    let rules = ask("/api/v1/rules").unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(!rules.is_empty());
    for rule in rules {
        assert_eq!((&rule["health"], &rule["state"]), (&"ok".into(), &"inactive".into()), "{rule}");
    }
}

/// The target that evaluates an expression now.
fn query(expression: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    format!("/api/v1/query?query={}", expression.bytes().map(escape).collect::<String>())
}
