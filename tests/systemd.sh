#!/usr/bin/env bash
# SPDX-License-Identifier: AGPL-3.0-only
# The unit of deploy/systemd under a real systemd: installed as docs/operators.md says, started, pushed to
# over TLS, reloaded, killed, told wrong things, stopped.
#
# systemd runs as process 1 of namespaces of its own, on an overlay over this machine's files that is in
# memory: nothing outside is changed, and its network is a loopback of its own. Needs root, systemd, openssl
# and crane (tests/clients/install.sh).
#
#   tests/systemd.sh [target/release/stella]
#
# The last line tells how many checks passed and failed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What runs inside, as a service of that systemd: the checks themselves.
checks() {
  local passed=0 failed=0
  check() {
    local what=$1
    shift
    if "$@" >/tmp/said 2>&1; then
      passed=$((passed + 1))
      echo "ok: $what"
    else
      failed=$((failed + 1))
      echo "FAILED: $what: $*"
      tail -n 30 /tmp/said
      journalctl --no-pager -u stella -o cat -n 15
    fi
  }
  # until SECONDS COMMAND...: again and again until it succeeds
  until_ok() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
      [ $SECONDS -lt $deadline ] || return 1
      sleep 0.1
    done
  }
  is() { [ "$(systemctl show -P "$1" stella)" = "$2" ]; }
  logged() { journalctl --no-pager -u stella | grep -q "$1"; }
  not() { ! "$@"; }

  # As the operator's page says.
  systemd-sysusers /usr/lib/sysusers.d/stella.conf
  check "sysusers makes the user" getent passwd stella
  install -d -m 0750 -g stella /etc/stella /etc/stella/tls
  install -m 0640 -g stella "$root/deploy/systemd/stella.yaml" /etc/stella/stella.yaml
  certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$1" -subj /CN=localhost \
      -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout /tmp/key -out /tmp/crt 2>/dev/null
    install -m 0640 -g stella /tmp/key /etc/stella/tls/registry.key
    install -m 0640 -g stella /tmp/crt /etc/stella/tls/registry.crt
  }
  certificate 30
  sed -i -e 's/^# tls:/tls:/; s/^#   certificates:/  certificates:/; s/^#     - certificate/    - certificate/; s/^#       key:/      key:/' /etc/stella/stella.yaml
  check "the configuration is valid" /usr/bin/stella config check --config /etc/stella/stella.yaml
  systemctl daemon-reload
  check "it starts, and says so" systemctl start stella
  check "it is active" is ActiveState active
  check "its data is its own" test "$(stat -c '%U %a' /var/lib/stella)" = "stella 750"
  check "it runs as stella" test "$(ps -o user= -p "$(systemctl show -P MainPID stella)")" = stella
  # As many as the unit says, or as this machine allows.
  local most
  most=$(ulimit -Hn)
  [ "$most" -lt 500000 ] || most=500000
  check "it may open many files" grep -qE "Max open files +$most +$most" "/proc/$(systemctl show -P MainPID stella)/limits"

  export SSL_CERT_FILE=/etc/stella/tls/registry.crt HOME=/tmp
  printf 'FROM nothing' >/tmp/file && tar -cf /tmp/layer.tar -C /tmp file
  check "crane pushes over TLS" crane append --insecure=false -f /tmp/layer.tar -t localhost:5000/hello:1
  check "crane pulls" crane manifest localhost:5000/hello:1
  check "metrics are on their own port" curl -sf http://127.0.0.1:5001/metrics
  check "it is ready" curl -sf http://127.0.0.1:5001/readyz
  check "an administrator works through the server" /usr/bin/stella fsck --data /var/lib/stella

  local old
  old=$(openssl x509 -in /etc/stella/tls/registry.crt -noout -fingerprint)
  certificate 60
  check "it reloads" systemctl reload stella
  served() { echo | openssl s_client -connect localhost:5000 2>/dev/null | openssl x509 -noout -fingerprint; }
  renewed() { [ "$(served)" != "$old" ]; }
  check "the new certificate is served" until_ok 20 renewed
  check "crane trusts the new one" crane manifest localhost:5000/hello:1
  check "a reload is no restart" is NRestarts 0

  systemctl kill -s KILL stella
  check "after a crash it comes back" until_ok 30 is NRestarts 1
  check "and serves" until_ok 30 crane manifest localhost:5000/hello:1
  check "it stops gracefully" systemctl stop stella
  check "with success" is Result success
  check "and says why it went" logged 'shutting down'

  cp /etc/stella/stella.yaml /tmp/good.yaml
  echo 'lisen: localhost:1' >>/etc/stella/stella.yaml
  check "a wrong configuration does not start" not systemctl start stella
  check "the journal names the key" until_ok 10 logged 'unknown key `lisen`'
  check "and it is not tried again" is NRestarts 0
  cp /tmp/good.yaml /etc/stella/stella.yaml
  systemctl reset-failed stella

  install -d /etc/systemd/system/stella.service.d
  install -m 0644 "$root/deploy/systemd/credentials.conf" /etc/systemd/system/stella.service.d/
  sed -i 's|/etc/stella/tls/|/run/credentials/stella.service/|' /etc/stella/stella.yaml
  chmod 0600 /etc/stella/tls/registry.key
  chown root:root /etc/stella/tls/registry.key
  systemctl daemon-reload
  check "it starts with a key that only root can read" systemctl start stella
  check "and serves with it" crane manifest localhost:5000/hello:1
  check "confinement is as good as it was" systemd-analyze security --no-pager --threshold=15 stella.service
  systemctl stop stella
  echo "$passed passed, $failed failed"
}

# What runs as the first process of the namespaces: makes the files and becomes systemd.
boot() {
  local work=$1 binary=$2 out=$3
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$work"
  mkdir "$work"/{up,tmp,root}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/up,workdir=$work/tmp" "$work/root"
  cd "$work/root"
  mount -t proc proc proc
  # Settings of the kernel are everybody's.
  mount --bind proc/sys proc/sys
  mount -o remount,bind,ro proc/sys
  mount -t tmpfs tmpfs dev
  local device
  for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
  done
  ln -s /proc/self/fd dev/fd
  mkdir dev/shm dev/mqueue dev/pts
  mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  mount -t tmpfs tmpfs run
  mount -t tmpfs tmpfs tmp
  mount -t sysfs sysfs sys
  mount -o remount,ro sys
  mount -t tmpfs tmpfs sys/fs/cgroup
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup sys/fs/cgroup
  else
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  fi
  ip link set lo up
  # What this machine starts by itself is not wanted, nor what would change its kernel.
  rm -rf etc/systemd/system/*.wants
  local unit
  for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-remount-fs systemd-udevd systemd-udev-trigger \
    systemd-update-utmp systemd-tmpfiles-clean; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
  done
  ln -sf /dev/null etc/systemd/system/proc-sys-fs-binfmt_misc.automount
  ln -sf /dev/null etc/systemd/system/systemd-journald-audit.socket
  install -m 0755 "$binary" usr/bin/stella
  install -D -m 0644 "$root/deploy/systemd/stella.service" etc/systemd/system/stella.service
  install -D -m 0644 "$root/deploy/systemd/stella.sysusers" usr/lib/sysusers.d/stella.conf
  rm -rf etc/stella var/lib/stella
  sed -i '/^stella:/d' etc/passwd etc/group etc/shadow etc/gshadow
  cat >etc/systemd/system/checks.service <<UNIT
[Unit]
Requires=dbus.service
After=dbus.service
[Service]
Type=oneshot
Environment=PATH=$PATH
ExecStart=/bin/bash $root/tests/systemd.sh --checks
ExecStopPost=/bin/sh -c 'systemctl --force --force poweroff >/dev/null 2>&1'
StandardOutput=append:/srv/out
StandardError=append:/srv/out
UNIT
  touch srv/out
  mount --bind "$out" srv/out
  pivot_root . mnt
  umount -l /mnt
  # systemd hands credentials to a unit by a mount, and expects that of whoever starts it in a container.
  mount --make-rshared /
  exec env -i container=other /lib/systemd/systemd --system --unit=checks.service --log-level=warning --log-target=journal
}

case ${1:-} in
  --checks) checks ;;
  --boot) shift; boot "$@" ;;
  *)
    binary=$(realpath "${1:-$root/target/release/stella}")
    export PATH=${STELLA_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/stella-clients}/bin:$PATH:/usr/sbin:/sbin
    for program in systemd-analyze unshare openssl crane ip; do
      command -v "$program" >/dev/null || { echo "error: $program is not installed: see tests/clients/install.sh" >&2; exit 1; }
    done
    [ "$(id -u)" = 0 ] || { echo "error: a systemd of its own needs root" >&2; exit 1; }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/over"
    touch "$work/out"
    timeout 300 unshare -pfmuinC --kill-child bash "$root/tests/systemd.sh" --boot "$work/over" "$binary" "$work/out" </dev/null || true
    cat "$work/out"
    tail -n 1 "$work/out" | grep -qE '^[1-9][0-9]* passed, 0 failed$'
    ;;
esac
