// SPDX-License-Identifier: AGPL-3.0-only
//! The documentation's configurations: each block that begins with `# stella.yaml`, in `docs/access.md` and in
//! `docs/ci`, is one that `stella config check` takes. Files that a block names are made beside it.

use std::fs;
use std::path::{Path, PathBuf};

use stella_tests::Authority;
use tempfile::TempDir;

use super::line;
use crate::administration::stella_with;

/// Where the documentation has its files.
const FOLDER: &str = "/etc/stella/";
const MARK: &str = "# stella.yaml";
/// RFC 7515, appendix A.3.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// The blocks of one file, in order.
fn blocks(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "md") { fenced(&text) } else { commented(&text) }
}

/// Of Markdown, what stands between fences.
fn fenced(text: &str) -> Vec<String> {
    let parts = text.split("```yaml\n").skip(1);
    let blocks = parts.map(|part| part.split("```").next().unwrap());
    blocks.filter(|block| block.starts_with(MARK)).map(str::to_owned).collect()
}

/// Of YAML for something else, the comment after the mark, as far as it is indented.
fn commented(text: &str) -> Vec<String> {
    let after = text.split(MARK).skip(1);
    let block = |part: &str| {
        let lines = part.lines().skip(1).skip_while(|line| *line == "#");
        let lines = lines.map_while(|line| line.strip_prefix("#   "));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    after.map(block).collect()
}

/// Writes the files that a block names, and the block with their names.
fn write(folder: &Path, block: &str) -> PathBuf {
    let authority = Authority::new();
    fs::create_dir_all(folder.join("tls")).unwrap();
    authority.issue(&["registry.example"]).write(&folder.join("tls"), "registry");
    fs::write(folder.join("users"), line("alice", "secret")).unwrap();
    for named in block.split(FOLDER).skip(1) {
        let end = named.find(|c: char| c.is_whitespace() || "\"',}]".contains(c)).unwrap();
        let file = folder.join(&named[..end]);
        let content = if Path::new(&named[..end]).extension().is_some_and(|end| end == "json") {
            JWKS
        } else {
            authority.pem()
        };
        if !file.exists() {
            fs::write(file, content).unwrap();
        }
    }
    let path = folder.join("stella.yaml");
    fs::write(&path, block.replace(FOLDER, &format!("{}/", folder.display()))).unwrap();
    path
}

#[test]
fn every_configuration_in_the_documentation_is_valid() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut files = vec![docs.join("access.md")];
    files.extend(fs::read_dir(docs.join("ci")).unwrap().map(|entry| entry.unwrap().path()));
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let blocks = blocks(&file);
        assert!(!blocks.is_empty(), "{} has no configuration", file.display());
        for block in blocks {
            assert!(
                block.contains("\naccess:") || block.contains("auth:") || block.contains("repositories:")
            );
            let folder = TempDir::new().unwrap();
            let path = write(folder.path(), &block);
            let args = ["config", "check", "--config", path.to_str().unwrap()];
            let outcome = stella_with(&folder.path().join("data"), &args, &[]);
            assert_eq!(outcome.code, Some(0), "{}: {outcome:?}\n{block}", file.display());
        }
    }
}
