// SPDX-License-Identifier: AGPL-3.0-only
//! Where documents come from: files, and folders of files whose names end in `.yaml` or `.yml`. Sizes are bounded before
//! anything is read.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::section::Faults;
use super::yaml::{self, MOST_FILE};
use super::{Document, RootNames, document};
use crate::{Error, Result};

const MOST_FILES: usize = 1_000;
const MOST_BYTES: u64 = 16 << 20;

/// All documents of these files and folders, in the order of their names.
pub(crate) fn read(paths: &[PathBuf], roots: &[RootNames]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut faults = Vec::new();
    let mut bytes = 0_u64;
    let files = files(paths)?;
    if files.len() > MOST_FILES {
        return Err(Error::Load(format!("more than {MOST_FILES} files of policy documents")));
    }
    for path in &files {
        let name = path.display().to_string();
        let text = match read_file(path)? {
            Ok(text) => text,
            Err(why) => {
                faults.push(format!("{name}:1:1: {why}"));
                continue;
            }
        };
        bytes += text.len() as u64;
        if bytes > MOST_BYTES {
            return Err(Error::Load(format!(
                "{name}:1:1: the documents together are larger than {MOST_BYTES} bytes"
            )));
        }
        let found = of_text(&name, &text, roots);
        documents.extend(found.0);
        faults.extend(found.1);
    }
    if faults.is_empty() { Ok(documents) } else { Err(Error::Load(faults.join("\n"))) }
}

/// The documents of a text, and its faults.
pub(crate) fn of_text(name: &str, text: &str, roots: &[RootNames]) -> (Vec<Document>, Vec<String>) {
    let faults = Faults::new(name);
    let nodes = yaml::parse(text, &faults);
    let documents = nodes.iter().filter_map(|node| document(node, roots, &faults)).collect();
    let mut lines = faults.into_lines();
    if nodes.is_empty() && lines.is_empty() {
        lines.push(format!("{name}:1:1: no document in it"));
    }
    (documents, lines)
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |cause| Error::File { path: path.clone(), cause };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let is_hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let is_yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
            if is_yaml && !is_hidden && file.is_file() {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(Error::Load(format!(
                "{}:1:1: no file in this folder ends in .yaml or .yml",
                path.display()
            )));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn read_file(path: &Path) -> Result<std::result::Result<String, String>> {
    let failed = |cause| Error::File { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MOST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_FILE {
        return Ok(Err(format!("the file is larger than {MOST_FILE} bytes")));
    }
    Ok(String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned()))
}
