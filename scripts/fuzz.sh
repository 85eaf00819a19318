#!/usr/bin/env bash
# fuzz.sh each DURATION: every FuzzXxx of the module for DURATION.
# fuzz.sh all SECONDS:   the same, sharing SECONDS among them (1 to 5 s each).
# One instrumented test binary a package; crashers go to testdata/fuzz there.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=$1 budget=$2

mapfile -t targets < <(find . \( -name node_modules -o -name .git -o -name .tools \) -prune -o -name '*_test.go' -print0 |
  xargs -0 -r grep -HoE '^func Fuzz[A-Za-z0-9_]*\(' | sed -E 's|^(.*)/[^/]+:func ([A-Za-z0-9_]+)\($|\1 \2|' | sort -u)
if [ ${#targets[@]} -eq 0 ]; then
  echo "fuzz: no targets"
  exit 0
fi

case $mode in
  each) time=$budget ;;
  all)
    seconds=$((budget / ${#targets[@]}))
    [ "$seconds" -gt 5 ] && seconds=5
    [ "$seconds" -lt 1 ] && seconds=1
    time=${seconds}s ;;
  *) echo "fuzz: unknown mode $mode" >&2; exit 2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$(go env GOCACHE)/fuzz/$(go list -m)
failed=0 last='' binary=''
for target in "${targets[@]}"; do
  dir=${target% *} name=${target#* }
  if [ "$dir" != "$last" ]; then
    binary=$work/$(echo "$dir" | tr '/.' '__')
    go test -c -fuzz=. -o "$binary" "$dir"
    last=$dir
  fi
  printf 'fuzz: %s %s %s: ' "$dir" "$name" "$time"
  if (cd "$dir" && "$binary" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="$time" \
      -test.fuzzminimizetime=5s -test.fuzzcachedir="$cache/$dir" -test.timeout=0) >"$work/out" 2>&1; then
    grep -oE 'execs: [0-9]+' "$work/out" | tail -n 1 || echo ok
  elif grep -q 'context deadline exceeded' "$work/out" && ! grep -q 'Failing input' "$work/out"; then
    # The engine reports its own deadline as a failure when a worker is late
    #; without a failing input nothing was found.
    echo "ok (worker late at the deadline)"
  else
    echo FAILED
    cat "$work/out"
    failed=1
  fi
done
exit $failed
