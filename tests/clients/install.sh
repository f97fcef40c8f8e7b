#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
# Installs the real clients that the client tests and the official suite use, PostgreSQL, Prometheus,
# and what judges systemd units.
#
# Go programs are built into $STELLA_CLIENTS (default: ~/.cache/stella-clients),
# outside the checkout; what is already there at the right version is skipped.
# Debian packages are installed when missing, which needs root.
#
#   tests/clients/install.sh            everything but the peers of the benches
#   tests/clients/install.sh crane oras only these
set -euo pipefail

cache=${STELLA_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/stella-clients}
mkdir -p "$cache/bin" "$cache/versions"

# name, Go package, version, and the Go toolchain where the package needs a newer one than the installed. The versions
# are exact: clients differ between releases.
go_tools='
crane       github.com/google/go-containerregistry/cmd/crane             v0.22.1
oras        oras.land/oras/cmd/oras                                      v1.3.6
helm        helm.sh/helm/v3/cmd/helm                                     v3.22.0
regctl      github.com/regclient/regclient/cmd/regctl                    v0.11.7
cosign      github.com/sigstore/cosign/v3/cmd/cosign                     v3.1.3
cosign2     github.com/sigstore/cosign/v2/cmd/cosign                     v2.6.5
conformance github.com/opencontainers/distribution-spec/conformance      v0.0.0-20260831232431-97274622c111
timestamp-server github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server v2.1.5 go1.27.3
'
# What the benches compare with (tests/benches/run.sh names them): only when named.
peer_go_tools='
registry    github.com/distribution/distribution/v3/cmd/registry         v3.0.0
'
# command, Debian package
debian_tools='
dockerd    docker.io
skopeo     skopeo
podman     podman
buildah    buildah
ctr        containerd
pg_lsclusters postgresql
promtool   prometheus
systemd-analyze systemd
openssl    openssl
ip         iproute2
xfs_io     xfsprogs
mkfs.ext4  e2fsprogs
nginx      nginx
curl       curl
docker-registry docker-registry
'

wanted() {
  local name=$1
  shift
  [ $# -eq 0 ] && return 0
  local w
  for w in "$@"; do [ "$w" = "$name" ] && return 0; done
  return 1
}

if [ $# -gt 0 ]; then
  go_tools+=$peer_go_tools
fi

for name in "$@"; do
  if ! grep -qE "^$name +" <<<"$go_tools$debian_tools"; then
    echo "error: unknown client $name" >&2
    exit 2
  fi
done

missing=()
while read -r command package; do
  [ -n "$command" ] && wanted "$command" "$@" || continue
  PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("$package")
done <<<"$debian_tools"
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing Debian packages: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    echo "error: needs root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # In runlevel 1 a package's service is not started: each test and bench starts what it needs by itself.
  RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

while read -r name package version toolchain; do
  [ -n "$name" ] && wanted "$name" "$@" || continue
  if [ -x "$cache/bin/$name" ] && [ "$(cat "$cache/versions/$name" 2>/dev/null)" = "$version" ]; then
    echo "$name $version is there"
    continue
  fi
  command -v go >/dev/null || { echo "error: $name is built with Go, which is not installed" >&2; exit 1; }
  echo "building $name $version"
  staging=$(mktemp -d "$cache/build.XXXXXX")
  CGO_ENABLED=0 GOFLAGS= GOBIN=$staging GOTOOLCHAIN=${toolchain:-${GOTOOLCHAIN:-auto}} go install -ldflags '-s -w' "$package@$version"
  mv -f "$staging/$(basename "$package")" "$cache/bin/$name"
  rmdir "$staging"
  echo "$version" >"$cache/versions/$name"
done <<<"$go_tools"
