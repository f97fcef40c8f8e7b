// SPDX-License-Identifier: AGPL-3.0-only
//! The contents that every client pushes and pulls, one of each kind, by the tag they get.

use stella_tests::{Content, Image};

/// An image, an index of two platforms, an image with zstd layers, a Docker schema 2 image and a Docker
/// manifest list.
pub(crate) fn samples() -> [(&'static str, Content); 5] {
    let arm = |seed| Image::sample(seed).architecture("arm64");
    [
        ("image", Image::sample(1).build()),
        ("index", Content::index(&[Image::sample(2).build(), arm(3).build()])),
        ("zstd", Image::sample(4).zstd().build()),
        ("docker", Image::sample(5).docker().build()),
        ("list", Content::docker_list(&[Image::sample(6).docker().build(), arm(7).docker().build()])),
    ]
}
