#!/usr/bin/env bash
# Three PostgreSQL nodes under Patroni on this machine, for a test: loopback only, no password, one etcd. Not for service.
#   deploy/postgres-lab.sh start | status | dsn | kill-leader | stop
# Needs the packages patroni, etcd-server and postgresql; as root it runs everything as the user postgres.
set -euo pipefail

lab=${SOTTO_LAB:-/tmp/sotto-postgres-lab}
base=${SOTTO_LAB_PORT:-24790}   # etcd, its peers; then a REST and a PostgreSQL port for each node
bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -1)
rest() { echo $((base + 10 + $1)); }
port() { echo $((base + 20 + $1)); }

# background NAME COMMAND…: runs it in a session of its own, and keeps its process id, which exec hands down.
background() {
  local name=$1 user=(); shift
  if [ "$(id -u)" = 0 ]; then user=(setpriv --reuid postgres --regid postgres --init-groups); fi
  (exec "${user[@]}" setsid "$@") >"$lab/$name.log" 2>&1 </dev/null &
  echo $! >"$lab/$name.pid"
}

# finish NAME SIGNAL: ends what background has started, if it is still that.
finish() {
  local pid
  pid=$(cat "$lab/$1.pid" 2>/dev/null) || return 0
  if grep -qs -- "$lab" "/proc/$pid/cmdline"; then kill "-$2" "$pid"; fi
}

settings() {
  local n=$1
  cat <<YAML
scope: sotto
name: node$n
restapi: {listen: "127.0.0.1:$(rest "$n")", connect_address: "127.0.0.1:$(rest "$n")"}
etcd3: {host: "127.0.0.1:$base"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 3
    retry_timeout: 5
    maximum_lag_on_failover: 0
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql: {use_pg_rewind: true, use_slots: true, parameters: {synchronous_commit: "on", shared_buffers: 16MB, max_connections: 60}}
  initdb: [{encoding: UTF8}, {locale: C.UTF-8}, data-checksums]
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
postgresql:
  listen: "127.0.0.1:$(port "$n")"
  connect_address: "127.0.0.1:$(port "$n")"
  data_dir: "$lab/node$n"
  bin_dir: "$bin"
  pgpass: "$lab/pgpass$n"
  parameters: {unix_socket_directories: "$lab"}
  authentication: {superuser: {username: postgres}, replication: {username: replicator}, rewind: {username: postgres}}
YAML
}

leader() { # the number of the node that leads, nothing when none does
  local n
  for n in 1 2 3; do
    if curl -fsS -o /dev/null "http://127.0.0.1:$(rest "$n")/primary" 2>/dev/null; then echo "$n"; return; fi
  done
}

await_leader() {
  local i
  for ((i = 0; i < 120; i++)); do
    [ -n "$(leader)" ] && [ "$(curl -fsS "http://127.0.0.1:$(rest "$(leader)")/cluster" | grep -o '"sync_standby"' | wc -l)" -gt 0 ] && return
    sleep 1
  done
  echo "postgres-lab: no leader with a synchronous standby after two minutes: see $lab/*.log" >&2
  return 1
}

dsn() { echo "postgres://postgres@127.0.0.1:$(port 1),127.0.0.1:$(port 2),127.0.0.1:$(port 3)/postgres?sslmode=disable"; }

case ${1:-} in
start)
  mkdir "$lab" || { echo "postgres-lab: stop the one that is there first" >&2; exit 1; }
  if [ "$(id -u)" = 0 ]; then chown postgres: "$lab"; fi
  background etcd etcd --data-dir "$lab/etcd" --listen-client-urls "http://127.0.0.1:$base" --advertise-client-urls "http://127.0.0.1:$base" \
    --listen-peer-urls "http://127.0.0.1:$((base + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((base + 1))" --initial-cluster "default=http://127.0.0.1:$((base + 1))"
  for n in 1 2 3; do
    settings "$n" >"$lab/node$n.yml"
    background "patroni$n" patroni "$lab/node$n.yml"
  done
  await_leader
  dsn
  ;;
status) patronictl -c "$lab/node1.yml" list ;;
dsn) dsn ;;
kill-leader)
  n=$(leader)
  [ -n "$n" ] || { echo "postgres-lab: nobody leads" >&2; exit 1; }
  pid=$(head -1 "$lab/node$n/postmaster.pid")
  finish "patroni$n" KILL # before it could start the server again
  kill -KILL "$pid"
  echo "killed node$n"
  ;;
stop)
  for n in 1 2 3; do finish "patroni$n" TERM; done # Patroni stops its PostgreSQL
  for n in 1 2 3; do
    for ((i = 0; i < 30; i++)); do
      [ -e "$lab/node$n/postmaster.pid" ] && kill -0 "$(head -1 "$lab/node$n/postmaster.pid")" 2>/dev/null || break
      sleep 1
    done
  done
  finish etcd TERM
  rm -rf "$lab"
  ;;
*)
  sed -n 's/^# \{0,1\}//p' "$0" | head -4
  exit 2
  ;;
esac
