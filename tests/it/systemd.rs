// SPDX-License-Identifier: AGPL-3.0-only
//! The unit of `deploy/systemd`, as far as it can be judged without a systemd that runs: what that makes of
//! it is in `tests/systemd.sh`.

use std::fs;
use std::path::Path;

use stella_tests::{Client, Workshop, stella};

/// The most exposure that `systemd-analyze security` may find, in tenths: 0 is none, 100 is everything.
const EXPOSURE: u32 = 15;

fn deployed(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn the_unit_is_accepted_and_well_confined() {
    let Some(workshop) = Workshop::with(&[Client::Systemd]) else { return };
    // A unit whose program is not there is refused.
    let unit = deployed("stella.service").replace("/usr/bin/stella", stella().to_str().unwrap());
    workshop.write("stella.service", unit);
    let verified = workshop.program("systemd-analyze").try_run("verify --man=no ./stella.service");
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified}");
    workshop
        .program("systemd-analyze")
        .run(&format!("security --no-pager --offline=true --threshold={EXPOSURE} ./stella.service"));
}
