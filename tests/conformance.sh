#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
# Runs the official OCI conformance suite five times, each time against a fresh server:
#
#   strict    the development version of the specification, sparse manifests too:
#             nothing may fail, be skipped or be disabled
#   default   the suite's defaults against our defaults: nothing may fail or be skipped
#   token     as strict, with access rules, and credentials that the token service turns into tokens
#   basic     the same, with credentials that go with each request
#   warn      as strict, with policies that warn at every push and pull in every repository
#
# The suite's exit status alone proves little: it is 0 also when its settings cannot be
# read and when checks were skipped. So the counts are read from junit.xml (results.yaml
# keeps the worst status of each API, and there a skip hides behind a pass).
#
#   tests/conformance.sh [RESULTS_DIR]      default: a temporary directory, which is kept
#
# STELLA_BIN      the program to test (default: stella in the release directory of cargo)
# STELLA_CLIENTS  where tests/clients/install.sh put the suite
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stella=$(realpath -m "${STELLA_BIN:-${CARGO_TARGET_DIR:-$root/target}/release/stella}")
clients=${STELLA_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/stella-clients}
suite=$(realpath -m "$clients/bin/conformance")
[ -x "$stella" ] || { echo "error: no program at $stella: run cargo build --release" >&2; exit 1; }
[ -x "$suite" ] || { echo "error: no suite at $suite: run tests/clients/install.sh" >&2; exit 1; }

if [ $# -gt 0 ]; then
  mkdir -p "$1"
  results=$(cd "$1" && pwd)
else
  results=$(mktemp -d "${TMPDIR:-/tmp}/stella-conformance.XXXXXX")
fi

# Settings of the caller's shell must change neither the server nor the suite.
for name in "${!STELLA_@}" "${!OCI_@}"; do unset "$name"; done

server=
data=

stop_server() {
  [ -n "$server" ] || return 0
  local pid=$server deadline=$((SECONDS + 15)) late=0
  server=
  kill -TERM "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      late=1
      kill -KILL "$pid" 2>/dev/null || true
      break
    fi
    sleep 0.1
  done
  wait "$pid" 2>/dev/null || true
  return "$late"
}

clean_up() {
  stop_server || true
  if [ -n "$data" ]; then rm -rf "$data"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# An attribute of junit.xml's <testsuite>; the suite leaves out some that are 0.
count() {
  local value
  value=$(sed -n 's/^ *<testsuite .* '"$2"'="\([0-9][0-9]*\)".*/\1/p' "$1")
  echo "${value:-0}"
}

# conform NAME LEAST-PASSES [VARIABLE=VALUE]...
# The variables are given to server and suite alike: STELLA_… is read by one, OCI_… by the other.
conform() {
  local name=$1 least=$2
  shift 2
  local dir=$results/$name
  rm -rf "$dir"
  mkdir -p "$dir"
  data=$(mktemp -d "${TMPDIR:-/tmp}/stella-data.XXXXXX")

  : >"$dir/server.out" # read below, perhaps before the server's process has opened it
  env "$@" "$stella" serve --listen 127.0.0.1:0 --data "$data" \
    </dev/null >>"$dir/server.out" 2>"$dir/server.err" &
  server=$!

  local address='' line deadline=$((SECONDS + 30))
  while [ -z "$address" ]; do
    # `read` passes over a last line that is not yet complete.
    while IFS= read -r line; do
      if [[ $line =~ listening\ on\ http://(127\.0\.0\.1:[0-9]+) ]]; then
        address=${BASH_REMATCH[1]}
        break
      fi
    done <"$dir/server.out"
    [ -z "$address" ] || break
    if ! kill -0 "$server" 2>/dev/null; then
      echo "error: $name: the server ended before it listened" >&2
    elif [ "$SECONDS" -ge "$deadline" ]; then
      echo "error: $name: the server did not say where it listens within 30 s" >&2
    else
      sleep 0.1
      continue
    fi
    tail -n 20 "$dir/server.out" "$dir/server.err" >&2
    return 1
  done

  # The suite reads a file of settings from its working directory if there is one.
  local status=0
  (cd "$dir" && exec env "$@" OCI_REGISTRY="$address" OCI_TLS=disabled \
    OCI_REPO1=conf/r1 OCI_REPO2=conf/r2 OCI_RESULTS_DIR="$dir" \
    timeout --kill-after=10 600 "$suite" </dev/null >suite.out 2>suite.err) || status=$?

  local faults=()
  [ "$status" = 0 ] || faults+=("the suite ended with status $status")
  kill -0 "$server" 2>/dev/null || faults+=("the server ended during the run")
  stop_server || faults+=("the server did not stop within 15 s of SIGTERM")
  rm -rf "$data"
  data=

  [ "$name" != warn ] || grep -q 'policies are in force' "$dir/server.err" || faults+=("no policies were in force")

  local file bad
  for file in results.yaml junit.xml; do
    [ -s "$dir/$file" ] || faults+=("the suite wrote no $file")
  done
  if [ -s "$dir/results.yaml" ]; then
    bad='FAIL|Error|Skip|Unknown'
    [ "$name" = default ] || bad+='|Disabled'
    # Everything after the suite's own configuration: "  Blob get: Pass".
    bad=$(sed '1,/^apis:/d' "$dir/results.yaml" | grep -E ": ($bad)\$" || true)
    [ -z "$bad" ] || faults+=("results.yaml says"$'\n'"$bad")
    grep -q '^  Blob get: Pass$' "$dir/results.yaml" || faults+=("results.yaml has no passing 'Blob get'")
  fi
  if [ -s "$dir/junit.xml" ]; then
    local tests fail error skip disabled pass other
    tests=$(count "$dir/junit.xml" tests)
    fail=$(count "$dir/junit.xml" failures)
    error=$(count "$dir/junit.xml" errors)
    skip=$(count "$dir/junit.xml" skipped)
    disabled=$(count "$dir/junit.xml" disabled)
    pass=$((tests - fail - error - skip - disabled))
    echo "$name: checks $tests: pass $pass, fail $fail, error $error, skip $skip, disabled $disabled"

    grep -q '^ *<testsuite .* failures="0"' "$dir/junit.xml" || faults+=('junit.xml does not say failures="0"')
    grep -q '^ *<testsuite .* errors="0"' "$dir/junit.xml" || faults+=('junit.xml does not say errors="0"')
    [ "$skip" = 0 ] || faults+=("$skip checks were skipped")
    ! grep -q '<skipped' "$dir/junit.xml" || faults+=("junit.xml has <skipped> elements")
    [ "$name" = default ] || [ "$disabled" = 0 ] || faults+=("$disabled checks were disabled")
    [ "$pass" -ge "$least" ] || faults+=("only $pass checks passed, at least $least are expected")
    # A disabled check is written as status="skipped" as well; nothing else may be.
    other=$(grep '<testcase ' "$dir/junit.xml" | grep -cv ' status="passed"' || true)
    [ "$other" -le "$disabled" ] || faults+=("$other test cases did not pass, $disabled are disabled")
  fi

  [ ${#faults[@]} -gt 0 ] || return 0
  echo "error: conformance ($name) failed:" >&2
  printf -- '- %s\n' "${faults[@]}" >&2
  echo "last lines of the suite and of the server ($dir):" >&2
  tail -n 20 "$dir/suite.err" "$dir/server.err" >&2
  return 1
}

echo "results are kept in $results"
strict=(STELLA_PUSH__ALLOW_MISSING=true OCI_VERSION=dev OCI_DATA_SPARSE=true)
conform strict 1000 "${strict[@]}"
conform default 800

users=$results/users
rm -f "$users"
echo 'not a secret' | "$stella" user add suite --file "$users"
guarded=(
  "STELLA_ACCESS=[{allow: [pull, push, delete], to: {subject: suite}, repositories: [conf/**]}]"
  "STELLA_AUTH__HTPASSWD=$users" OCI_USERNAME=suite "OCI_PASSWORD=not a secret"
)
conform token 1000 "${strict[@]}" "${guarded[@]}"
conform basic 1000 "${strict[@]}" "${guarded[@]}" STELLA_AUTH__CHALLENGE=basic

policies=$results/policies
rm -rf "$policies"
mkdir "$policies"
(cd "$results" && rm -f cosign.key cosign.pub && COSIGN_PASSWORD='' "$stella" generate-key-pair)
cat >"$policies/warn.yaml" <<EOF
apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: signed}
spec:
  images: [{glob: "**"}]
  authorities:
  - key:
      data: |
$(sed 's/^/        /' "$results/cosign.pub")
---
apiVersion: policy.stella-ops.org/v1
kind: RegistryPolicy
metadata: {name: warn}
spec: {repositories: ["**"], push: warn, pull: warn, transparency: ignored}
EOF
conform warn 1000 "${strict[@]}" STELLA_POLICY__HOST=registry.test "STELLA_POLICY__PATHS=[$policies]"
echo "conformance: all runs are clean"
