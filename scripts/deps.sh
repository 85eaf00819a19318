#!/usr/bin/env bash
# What the tests need beside Go: the one list. Quick when all of it is there.
# `make run`, `make build` and `make check` need none of it. With `compare`:
# what `make compare` needs, which no test does.
set -euo pipefail
cd "$(dirname "$0")/.."

apt_packages=(
  gcc libc6-dev       # the race detector
  chromium            # first browser engine
  firefox-esr         # second browser engine
  fonts-noto-cjk      # the Japanese side of the screenshots
  iproute2 iptables   # namespaces, veth, loss
  tshark              # captures
  clang-19 llvm-19    # the kernel's programs (make generate)
  libbpf-dev          # their headers
  ffmpeg              # encodes for, and opens, recordings
  postgresql          # the other engine of the store; tests start servers of their own
  softhsm2            # a hardware module in software, for the KMS
  coturn              # its client speaks to our server; its server is what the bench is tried on, too
  simple-whip-client  # publishes over WHIP, on GStreamer
)

if [ "${1:-}" = compare ]; then
  apt_packages=(
    janus      # a peer
    coturn     # another
    iproute2   # its network namespace
  )
fi

installed() { [ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

missing=()
for p in "${apt_packages[@]}"; do
  installed "$p" || missing+=("$p")
done
# Node comes from the distribution or from elsewhere; only its absence counts.
if [ "${1:-}" != compare ]; then
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "deps: missing: ${missing[*]}" >&2
    echo "deps: run as root: apt-get install -y ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  made=() # to be removed again
  trap 'rm -f "${made[@]}"' EXIT
  # The package would make a database and start it as a service. Who has one of their own keeps it.
  quiet=/etc/postgresql-common/createcluster.d/sotto-tests.conf
  if [[ " ${missing[*]} " == *" postgresql "* && ! -e $quiet ]]; then
    mkdir -p "${quiet%/*}"
    echo 'create_main_cluster = false' > "$quiet"
    made+=("$quiet")
  fi
  apt-get -o DPkg::Lock::Timeout=500 update -q
  # No package starts what it brings (Debian policy §9.3.3.2): coturn would.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    made+=(/usr/sbin/policy-rc.d)
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  apt-get -o DPkg::Lock::Timeout=500 install -q -y --no-install-recommends "${missing[@]}"
fi

if [ "${1:-}" = compare ]; then
  exit 0
fi

major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$major" -lt 20 ]; then
  echo "deps: node $major is too old to build the web client: 20 or later is needed" >&2
  exit 1
fi

# npm ci only when the lock has changed since the last one.
for dir in web web/e2e; do
  [ -f "$dir/package-lock.json" ] || continue
  stamp=$dir/node_modules/.sotto-lock
  if ! cmp -s "$dir/package-lock.json" "$stamp"; then
    npm --prefix "$dir" ci --no-audit --no-fund
    mkdir -p "$dir/node_modules"
    cp "$dir/package-lock.json" "$stamp"
  fi
done
echo "deps: all there"
