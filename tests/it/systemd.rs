// SPDX-License-Identifier: AGPL-3.0-only
//! The unit of `deploy/systemd`, as far as it can be judged without a systemd that runs: what that makes of
//! it is in `tests/systemd.sh`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stella_tests::{Client, Host, Image, Process, Workshop, poll, stella};

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

#[test]
fn the_unit_s_command_serves_the_example_configuration_as_another_user() {
    let Some(workshop) = Workshop::with(&[Client::Systemd]) else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can run something as another user");
        return;
    }
    let unit = deployed("stella.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let (user, group) = (65532, 65532);
    let data = workshop.path("data");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(user), Some(group)).unwrap();
    let open_to_all = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workshop.folder(), open_to_all).unwrap();
    let binary = workshop.path("stella");
    fs::copy(stella(), &binary).unwrap();
    let example = deployed("stella.yaml");
    let mut config = example.replace("/var/lib/stella", data.to_str().unwrap());
    for port in ["127.0.0.1:5000", "127.0.0.1:5001"] {
        assert!(config.contains(port));
        config = config.replace(port, "127.0.0.1:0");
    }
    let config = workshop.write("stella.yaml", config);

    let line = value("ExecStart=").replace("/usr/bin/stella", binary.to_str().unwrap());
    let line = line.replace("/etc/stella/stella.yaml", config.to_str().unwrap());
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).env_clear().uid(user).gid(group).current_dir("/");
    let mut process = Process::start("stella as the unit has it", &mut command, &workshop.path("log"));
    let host = poll("it to listen", Duration::from_secs(40), || {
        assert!(process.ended().is_none(), "it ended at once");
        process.said().lines().find_map(|line| Some(line.strip_prefix("listening on http://")?.to_owned()))
    });
    let image = Image::sample(1).build();
    let app = Host::plain(&host).repository("team/app");
    app.push(&image, "1");
    app.pull("1").assert_same(&image);
    assert!(process.stop(Duration::from_secs(40)).success());
}
