// SPDX-License-Identifier: AGPL-3.0-only
//! A repository of the server, spoken to in plain HTTP/1.1: what the registry really holds and serves, apart
//! from what a client makes of it. It asserts what the OCI distribution specification promises, no more.

use serde_json::Value;

use crate::content::Content;
use crate::host::Host;
use crate::http::{Request, Response};
use crate::noise::digest;

/// A repository of the server under test.
#[derive(Clone, Debug)]
pub struct Repository {
    host: Host,
    name: String,
}

impl Repository {
    pub(crate) fn new(host: &Host, name: &str) -> Self {
        Self { host: host.clone(), name: name.to_owned() }
    }

    /// A request for `what` below the repository, such as `tags/list`.
    pub fn request(&self, method: &str, what: &str) -> Request {
        Request::new(method, &format!("/v2/{}/{what}", self.name))
    }

    /// Sends a request, and reads its answer.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        request.send(&self.host)
    }

    /// Pushes a blob in one piece, and gives its digest.
    #[track_caller]
    pub fn push_blob(&self, bytes: &[u8]) -> String {
        self.upload().finish(bytes, &digest(bytes))
    }

    /// Opens an upload.
    #[track_caller]
    pub fn upload(&self) -> Upload {
        let opened = self.send(&self.request("POST", "blobs/uploads/")).must_be(202);
        Upload { host: self.host.clone(), location: opened.must_have("location").to_owned() }
    }

    /// The answer to a mount of `digest` from another repository, or from anywhere.
    #[track_caller]
    pub fn mount(&self, digest: &str, from: Option<&str>) -> Response {
        let request = self.request("POST", "blobs/uploads/").query("mount", digest);
        self.send(&match from {
            Some(from) => request.query("from", from),
            None => request,
        })
    }

    /// A blob, which must be there.
    #[track_caller]
    pub fn blob(&self, wanted: &str) -> Vec<u8> {
        let response = self.send(&self.request("GET", &format!("blobs/{wanted}"))).must_be(200);
        assert_eq!(response.must_have("content-length"), response.body.len().to_string());
        if let Some(said) = response.header("docker-content-digest") {
            assert_eq!(said, wanted);
        }
        assert_eq!(digest(&response.body), wanted, "the blob is not what was asked for");
        response.body
    }

    /// The status of a HEAD request for a blob.
    #[track_caller]
    pub fn blob_status(&self, digest: &str) -> u16 {
        self.send(&self.request("HEAD", &format!("blobs/{digest}"))).status
    }

    /// The status of a HEAD request for a manifest, by tag or digest.
    #[track_caller]
    pub fn manifest_status(&self, reference: &str) -> u16 {
        self.send(&self.request("HEAD", &format!("manifests/{reference}"))).status
    }

    /// Puts a manifest under a tag or its digest.
    #[track_caller]
    pub fn put_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Response {
        let request = self.request("PUT", &format!("manifests/{reference}"));
        let response = self.send(&request.header("Content-Type", media_type).body(bytes)).must_be(201);
        assert_eq!(response.must_have("docker-content-digest"), digest(bytes));
        response
    }

    /// Pushes `content` and everything below it, and tags it.
    #[track_caller]
    pub fn push(&self, content: &Content, tag: &str) {
        for bytes in content.blobs.values() {
            self.push_blob(bytes);
        }
        for (digest, (media_type, bytes)) in &content.manifests {
            if digest != content.digest() {
                self.put_manifest(digest, media_type, bytes);
            }
        }
        self.put_manifest(tag, content.media_type(), content.bytes());
    }

    /// What a tag or digest names, with everything below it.
    #[track_caller]
    pub fn pull(&self, reference: &str) -> Content {
        let manifest = |reference: &str| {
            let response = self.send(&self.request("GET", &format!("manifests/{reference}"))).must_be(200);
            assert_eq!(response.must_have("docker-content-digest"), digest(&response.body));
            (response.must_have("content-type").to_owned(), response.body)
        };
        let (media_type, bytes) = manifest(reference);
        Content::gather(&media_type, bytes, &mut |wanted, is_manifest| {
            if is_manifest { manifest(wanted).1 } else { self.blob(wanted) }
        })
    }

    /// All tags, in one answer.
    #[track_caller]
    pub fn tags(&self) -> Vec<String> {
        strings(&self.send(&self.request("GET", "tags/list")).must_be(200).json()["tags"])
    }

    /// The descriptors of what refers to `digest`.
    #[track_caller]
    pub fn referrers(&self, digest: &str) -> Vec<Value> {
        let response = self.send(&self.request("GET", &format!("referrers/{digest}"))).must_be(200);
        assert_eq!(response.must_have("content-type"), crate::media_type::INDEX);
        response.json()["manifests"].as_array().unwrap().clone()
    }

    /// Deletes a tag, or a manifest by digest.
    #[track_caller]
    pub fn delete_manifest(&self, reference: &str) {
        self.send(&self.request("DELETE", &format!("manifests/{reference}"))).must_be(202);
    }
}

/// A list of strings.
fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// An upload that is under way.
#[derive(Clone, Debug)]
pub struct Upload {
    host: Host,
    location: String,
}

impl Upload {
    /// A request to where the upload goes on.
    pub fn request(&self, method: &str) -> Request {
        Request::new(method, &self.location)
    }

    /// A PATCH request for the bytes from `from` up to, not with, `to`.
    pub fn patch(&self, from: usize, to: usize) -> Request {
        let range = format!("{from}-{}", to - 1);
        self.request("PATCH")
            .header("Content-Type", "application/octet-stream")
            .header("Content-Range", &range)
    }

    /// Sends the bytes from `from` on; takes over where the upload goes on after that.
    #[track_caller]
    pub fn append(&mut self, from: usize, bytes: &[u8]) {
        let to = from + bytes.len();
        let response = self.patch(from, to).body(bytes).send(&self.host).must_be(202);
        assert_eq!(response.must_have("range"), format!("0-{}", to - 1));
        self.go_on(&response);
    }

    /// Asks how many bytes the registry has; at least one must have come.
    #[track_caller]
    pub fn received(&mut self) -> usize {
        let response = self.request("GET").send(&self.host).must_be(204);
        self.go_on(&response);
        received(&response)
    }

    /// Closes the upload with its last bytes, which may be all or none, and gives the digest.
    #[track_caller]
    pub fn finish(&self, rest: &[u8], digest: &str) -> String {
        let request = self.request("PUT").query("digest", digest);
        let request = request.header("Content-Type", "application/octet-stream").body(rest);
        request.send(&self.host).must_be(201).must_have("location");
        digest.to_owned()
    }

    /// Takes the place where the upload goes on from an answer: the registry may move it each time.
    #[track_caller]
    pub fn go_on(&mut self, response: &Response) {
        response.must_have("location").clone_into(&mut self.location);
    }
}

/// How many bytes an answer's `Range: 0-<last>` says are there.
#[track_caller]
fn received(response: &Response) -> usize {
    let last = response.must_have("range").strip_prefix("0-").and_then(|last| last.parse::<usize>().ok());
    last.unwrap_or_else(|| panic!("not a range of bytes received: {response:?}")) + 1
}
