#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
# Builds the container image of Stella Registry from nothing: one static program, a list of users, the CA
# certificates of this machine, and an empty directory for the data. It needs cargo and GNU tar, no docker
# and no network but for the crates (none with CARGO_NET_OFFLINE=true).
#
#   deploy/image/build.sh                     target/image/stella-image.tar
#   deploy/image/build.sh OUT.tar             the archive goes there
#
# The archive is an OCI layout and a `docker save` archive at once: `docker load`, `podman load`,
# `skopeo copy oci-archive:…` and `crane push` read it. The same commit, toolchain and CA certificates give
# the same archive, byte for byte. What is packed stays in target/image/context with a Dockerfile:
# `docker build target/image/context` makes the same image.
#
#   STELLA_BINARY      pack this program instead of building one; it must be static
#   SOURCE_DATE_EPOCH  the date of everything inside; else that of the commit
#   CA_BUNDLE          another file of CA certificates; empty: none
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
out=$(realpath -m "${1:-$target/image/stella-image.tar}")
export LC_ALL=C

# Whoever runs it may write to its own directory and nowhere else.
user=65532
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) echo "error: no image for $(uname -m) yet" >&2; exit 1 ;;
esac
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
source=$(sed -n 's/^repository = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
bundle=${CA_BUNDLE-/etc/ssl/certs/ca-certificates.crt}

# glibc is linked in, and with it the reading of /etc/hosts and DNS: nothing is loaded at run time.
# Paths of this machine stay out of the program.
binary=${STELLA_BINARY:-}
if [ -z "$binary" ]; then
  triple=$(rustc -vV | sed -n 's/^host: //p')
  remap="--remap-path-prefix=$root=/stella --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  (
    cd "$root"
    RUSTFLAGS="-C target-feature=+crt-static $remap" CARGO_PROFILE_RELEASE_STRIP=debuginfo \
      cargo build --release --locked -p stella-registry --bin stella --target "$triple" --target-dir "$target/image/cargo"
  )
  binary=$target/image/cargo/$triple/release/stella
fi
if readelf -l "$binary" 2>/dev/null | grep -q 'INTERP'; then
  echo "error: $binary is not static: it would not start in an empty image" >&2
  exit 1
fi

# What is in the image.
context=$target/image/context
rm -rf "$context"
mkdir -p "$context/rootfs/etc/ssl/certs" "$context/data"
install -m 0755 "$binary" "$context/rootfs/stella"
printf 'root:x:0:0:root:/:/stella\nstella:x:%s:%s:Stella Registry:/var/lib/stella:/stella\n' $user $user >"$context/rootfs/etc/passwd"
printf 'root:x:0:\nstella:x:%s:\n' $user >"$context/rootfs/etc/group"
# Names: first what the engine writes into /etc/hosts, then DNS.
printf 'hosts: files dns\n' >"$context/rootfs/etc/nsswitch.conf"
if [ -n "$bundle" ]; then
  [ -r "$bundle" ] || { echo "error: no CA certificates at $bundle: install ca-certificates, or set CA_BUNDLE (empty: none)" >&2; exit 1; }
  install -m 0644 "$bundle" "$context/rootfs/etc/ssl/certs/ca-certificates.crt"
else
  rmdir -p --ignore-fail-on-non-empty "$context/rootfs/etc/ssl/certs"
fi
chmod -R u=rwX,go=rX "$context/rootfs"
sed -e "s|@VERSION@|$version|; s|@REVISION@|$revision|; s|@SOURCE@|$source|" "$here/Dockerfile" >"$context/Dockerfile"

# The archive. Blobs are named by their digests, as an OCI layout wants them.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
layout=$work/layout
mkdir -p "$layout/blobs/sha256" "$work/layer/var/lib/stella"
cp -a "$context/rootfs/." "$work/layer/"
chmod 0755 "$work/layer" "$work/layer/var" "$work/layer/var/lib"
chmod 0750 "$work/layer/var/lib/stella"
pack() { tar --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner "$@"; }
pack --create --owner=0 --group=0 -C "$work/layer" --file "$work/layer.tar" --exclude=./var/lib/stella --transform='s|^\./||' .
pack --append --owner=$user --group=$user -C "$work/layer" --file "$work/layer.tar" var/lib/stella

digest() { sha256sum "$1" | cut -d' ' -f1; }
# blob FILE: moves it into the layout, prints "DIGEST SIZE"
blob() {
  local name
  name=$(digest "$1")
  stat -c "$name %s" "$1"
  mv "$1" "$layout/blobs/sha256/$name"
}
diff_id=$(digest "$work/layer.tar")
gzip -n -9 "$work/layer.tar"
read -r layer layer_size < <(blob "$work/layer.tar.gz")

# The settings are those of the Dockerfile; tests/it/image.rs compares them.
cat >"$work/config.json" <<JSON
{"architecture":"$arch","os":"linux","created":"$created","config":{"User":"$user:$user","Env":["STELLA_DATA=/var/lib/stella"],"Entrypoint":["/stella"],"Cmd":["serve"],"WorkingDir":"/","Volumes":{"/var/lib/stella":{}},"StopSignal":"SIGTERM","Healthcheck":{"Test":["CMD","/stella","health"],"Interval":30000000000,"Timeout":10000000000,"StartPeriod":60000000000,"Retries":3},"Labels":{"org.opencontainers.image.description":"An OCI registry in one program","org.opencontainers.image.licenses":"AGPL-3.0-only","org.opencontainers.image.revision":"$revision","org.opencontainers.image.source":"$source","org.opencontainers.image.title":"Stella Registry","org.opencontainers.image.version":"$version"}},"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]},"history":[{"created":"$created","created_by":"deploy/image/build.sh"}]}
JSON
read -r config config_size < <(blob "$work/config.json")
cat >"$work/manifest.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(blob "$work/manifest.json")
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
cat >"$layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"platform":{"architecture":"$arch","os":"linux"},"annotations":{"io.containerd.image.name":"stella:$version","org.opencontainers.image.ref.name":"$version"}}]}
JSON
cat >"$layout/manifest.json" <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["stella:$version"],"Layers":["blobs/sha256/$layer"]}]
JSON
mkdir -p "$(dirname "$out")"
pack --create --owner=0 --group=0 --mode=u=rwX,go=rX -C "$layout" --file "$work/out.tar" --transform='s|^\./||' .
mv "$work/out.tar" "$out"
echo "$out: stella:$version, $(stat -c %s "$out") bytes, manifest sha256:$manifest"
