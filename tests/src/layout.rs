// SPDX-License-Identifier: AGPL-3.0-only
//! Contents as directories: the OCI image layout, and the flat `dir:` of skopeo.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::content::Content;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Content {
    /// Adds this content to the OCI layout `directory`, which is made if need be, under the name `tag`.
    pub fn write_layout(&self, directory: &Path, tag: &str) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let manifests = self.manifests.iter().map(|(digest, (_, bytes))| (digest, bytes));
        for (digest, bytes) in manifests.chain(&self.blobs) {
            fs::write(blobs.join(hex(digest)), bytes).unwrap();
        }
        let path = directory.join("index.json");
        let mut index = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => json!({"schemaVersion": 2, "mediaType": crate::media_type::INDEX, "manifests": []}),
        };
        let mut entry = self.descriptor();
        entry["annotations"] = json!({REF_NAME: tag});
        index["manifests"].as_array_mut().unwrap().push(entry);
        fs::write(path, index.to_string()).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    }

    /// Reads what the OCI layout `directory` names `tag`, or its only entry.
    #[track_caller]
    pub fn read_layout(directory: &Path, tag: &str) -> Self {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
        };
        let index: Value = serde_json::from_slice(&read("index.json")).unwrap();
        let entries = index["manifests"].as_array().unwrap();
        let entry = match entries.as_slice() {
            [only] => only,
            several => several.iter().find(|entry| entry["annotations"][REF_NAME] == tag).unwrap(),
        };
        let mut blob = |digest: &str, _| read(&format!("blobs/sha256/{}", hex(digest)));
        let root = blob(entry["digest"].as_str().unwrap(), true);
        Self::gather(entry["mediaType"].as_str().unwrap(), root, &mut blob)
    }

    /// Reads what skopeo wrote into `directory` as `dir:`.
    #[track_caller]
    pub fn read_flat(directory: &Path) -> Self {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
        };
        let root = read("manifest.json");
        let manifest: Value = serde_json::from_slice(&root).unwrap();
        Self::gather(manifest["mediaType"].as_str().unwrap(), root, &mut |digest, manifest| {
            read(&if manifest { format!("{}.manifest.json", hex(digest)) } else { hex(digest).to_owned() })
        })
    }
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap()
}
