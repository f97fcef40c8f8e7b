#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
# Measures the registry beside others and prints tables: installs what is missing, builds, runs.
# Needs Rust and Go; root, or the packages docker-registry and nginx.
#
#   tests/benches/run.sh                       everything; about half an hour on an idle machine
#   tests/benches/run.sh --only 'pull: 1 GiB'  only these rows; --list names all
#   tests/benches/run.sh --help                what else it can be told
#
# The servers' data goes to target/bench/data, or below --data FOLDER: that disk is measured.
# The results of each round are written to target/bench/DATE.json, or to --json FILE.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Paths that are given are relative to where the caller is; those that are not, to the checkout.
here=$PWD
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --json | --data | --stella)
      [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
      arguments+=("$1" "$(cd "$here" && realpath -m "$2")")
      shift 2
      ;;
    *)
      arguments+=("$1")
      shift
      ;;
  esac
done

cd "$root"
case " ${arguments[*]-} " in
  *' --list '* | *' --help '* | *' -h '* | *' --servers '*) ;; # what --servers names must be there
  *) tests/clients/install.sh docker-registry nginx registry cosign timestamp-server ip >&2 ;;
esac
if [ -z "${STELLA_BIN:-}" ]; then
  cargo build --release --locked --quiet -p stella-registry --bin stella
  export STELLA_BIN="${CARGO_TARGET_DIR:-$root/target}/release/stella"
fi
# Built first and then run without cargo in between, so that it gets our signals and cleans up.
bench=$(cargo bench --locked --quiet -p stella-tests --bench table --no-run --message-format=json |
  sed -n 's/.*"name":"table".*"executable":"\([^"]*\)".*/\1/p')
exec "$bench" "${arguments[@]+"${arguments[@]}"}"
