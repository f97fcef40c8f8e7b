// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of the choice of an engine: what is refused, and that the URL is never told.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::Overrides;

const URL: &str = "postgres://user:secret@localhost/db";

fn config(pairs: &[(&str, &str)]) -> Config {
    let env = pairs.iter().map(|(name, value)| (format!("STELLA_METADATA__{name}"), (*value).to_owned()));
    Config::load(None, env, Overrides::default()).unwrap()
}

fn fault(pairs: &[(&str, &str)]) -> String {
    let error = anyhow::Error::from(config(pairs).engine().unwrap_err());
    let text = format!("{error:#} {error:?}");
    assert!(!text.contains("secret"), "{text}");
    text
}

#[test]
fn sqlite_is_what_nobody_has_to_choose() {
    assert_eq!(config(&[]).engine().unwrap(), EngineOptions::Sqlite);
    assert_eq!(config(&[("ENGINE", "sqlite")]).engine().unwrap(), EngineOptions::Sqlite);
    let env = [("STELLA_METADATA__ENGINE".to_owned(), "mysql".to_owned())];
    let error = Config::load(None, env, Overrides::default()).unwrap_err().to_string();
    let expected = "environment STELLA_METADATA__ENGINE: `metadata.engine`: expected one of sqlite, postgres, sled, \
                    found \"mysql\"";
    assert_eq!(error, expected);
}

#[test]
fn the_url_is_never_shown() {
    let config = config(&[("ENGINE", "postgres"), ("URL", URL)]);
    let shown = config.to_yaml().unwrap();
    assert!(shown.contains("url: \"(hidden)\" # from environment STELLA_METADATA__URL"), "{shown}");
    assert!(!format!("{config:?}{shown}").contains("secret"));
}

#[test]
fn a_url_and_an_engine_that_do_not_fit_are_refused() {
    let alone = fault(&[("ENGINE", "postgres")]);
    assert!(
        alone.contains("`metadata.engine`: postgres needs its database: set `metadata.url_file`"),
        "{alone}"
    );
    assert!(fault(&[("URL", URL)]).contains("`metadata.url`: only the engine postgres has a URL"));
    assert!(fault(&[("ENGINE", "sled"), ("URL", URL)]).contains("`metadata.url`: only the engine postgres"));
    let twice = fault(&[("ENGINE", "postgres"), ("URL", URL), ("URL_FILE", "/nowhere")]);
    assert!(twice.contains("`metadata.url_file`: `metadata.url` is set too"), "{twice}");
    let shown = fault(&[("ENGINE", "postgres"), ("URL", "(hidden)")]);
    assert!(shown.contains("what `config show` prints"), "{shown}");
    let missing = fault(&[("ENGINE", "postgres"), ("URL_FILE", "/nowhere")]);
    assert!(missing.contains("cannot read the file that `metadata.url_file` names: /nowhere"), "{missing}");
}

#[cfg(feature = "postgres")]
#[test]
fn the_url_is_read_from_a_file_and_checked() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("url");
    let file = path.to_str().unwrap();
    fs::write(&path, format!("{URL}\n")).unwrap();
    let chosen = config(&[("ENGINE", "postgres"), ("URL_FILE", file)]).engine().unwrap();
    assert_eq!(chosen, EngineOptions::Postgres { url: URL.to_owned() });
    fs::write(&path, format!("{URL}?sslmode=require")).unwrap();
    let tls = fault(&[("ENGINE", "postgres"), ("URL_FILE", file)]);
    assert!(tls.contains("`metadata.url_file`: the URL of the metadata database asks for TLS"), "{tls}");
}

#[cfg(not(feature = "postgres"))]
#[test]
fn an_engine_that_is_not_built_in_says_how_to_build_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("url");
    fs::write(&path, URL).unwrap();
    let fault = fault(&[("ENGINE", "postgres"), ("URL_FILE", path.to_str().unwrap())]);
    let expected = "environment STELLA_METADATA__ENGINE: `metadata.engine`: this program was built without the \
                    metadata engine postgres: build it with `cargo build --release --features postgres`, or \
                    choose sqlite";
    assert!(fault.starts_with(expected), "{fault}");
}
