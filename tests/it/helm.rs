// SPDX-License-Identifier: AGPL-3.0-only
//! helm: charts, their provenance, and versions with `+`, which no tag may contain. It uploads with one PUT
//! and pushes a manifest that does not name its own media type.

use stella_tests::{Bench, Client, Tool, Transport, media_type, noise, over};

over! {
    [Plain, Tls]
    helm_pulls_the_charts_it_pushed_also_after_a_restart,
    helm_finds_the_newest_version_and_a_digest,
}

fn bench(over: Transport) -> Option<(Bench, Tool)> {
    let bench = Bench::with(&[Client::Helm], over)?;
    let helm = bench.tool(Client::Helm);
    Some((bench, helm))
}

/// Packs a chart with its provenance, which the registry need not understand, and pushes both.
fn push(bench: &Bench, helm: &Tool, version: &str) {
    let chart = format!("apiVersion: v2\nname: app\nversion: {version}\n");
    bench.write("app/Chart.yaml", chart);
    bench.write("app/files/noise", noise(1, 100_000));
    bench.write("app/templates/x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n");
    helm.run("package -d charts app");
    bench.write(&format!("charts/app-{version}.tgz.prov"), format!("the provenance of {version}\n"));
    helm.run(&format!("push --plain-http charts/app-{version}.tgz oci://{}/charts", bench.server.host()));
}

fn helm_pulls_the_charts_it_pushed_also_after_a_restart(over: Transport) {
    let Some((mut bench, helm)) = bench(over) else { return };
    let host = bench.server.host().to_owned();
    let versions = ["0.1.0", "0.2.0+build.5", "0.3.0-rc.1"];
    for version in versions {
        push(&bench, &helm, version);
    }
    bench.around_a_restart(|bench, when| {
        let repository = bench.server.repository("charts/app");
        assert_eq!(repository.tags(), ["0.1.0", "0.2.0_build.5", "0.3.0-rc.1"]);
        for version in versions {
            let pulled = format!("{when}/{version}");
            bench.write(&format!("{pulled}/here"), "");
            helm.run(&format!(
                "pull --plain-http oci://{host}/charts/app --version {version} --prov -d {pulled}"
            ));
            for file in [format!("app-{version}.tgz"), format!("app-{version}.tgz.prov")] {
                let same = bench.read(&format!("{pulled}/{file}")) == bench.read(&format!("charts/{file}"));
                assert!(same, "{file} differs {when} a restart");
            }
        }
    });
}

fn helm_finds_the_newest_version_and_a_digest(over: Transport) {
    let Some((bench, helm)) = bench(over) else { return };
    let host = bench.server.host();
    for version in ["0.9.0", "0.10.0"] {
        push(&bench, &helm, version);
    }
    helm.run(&format!("pull --plain-http oci://{host}/charts/app"));
    assert!(bench.read("app-0.10.0.tgz") == bench.read("charts/app-0.10.0.tgz"));

    let pushed = bench.server.repository("charts/app").pull("0.9.0");
    assert_eq!(pushed.media_type(), media_type::MANIFEST);
    std::fs::create_dir(bench.path("pulled")).unwrap();
    helm.run(&format!("pull --plain-http -d pulled oci://{host}/charts/app@{}", pushed.digest()));
    // Its name has the digest in it.
    let pulled = std::fs::read_dir(bench.path("pulled")).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read(pulled).unwrap() == bench.read("charts/app-0.9.0.tgz"));
    let shown = helm.run(&format!("show chart --plain-http oci://{host}/charts/app --version 0.9.0"));
    assert!(shown.contains("version: 0.9.0"), "{shown}");
}
