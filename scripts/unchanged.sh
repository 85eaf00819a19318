#!/usr/bin/env bash
# unchanged.sh DIR COMMAND…: runs COMMAND and fails when it changed a file
# below DIR. Compares contents before and after, so it works in a tree with
# uncommitted work; what COMMAND wrote stays, ready to be committed.
set -euo pipefail
dir=$1
shift

state() {
  find "$dir" \( -name node_modules -o -name .git -o -name .tools -o -path ./bin \) -prune \
    -o -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
}

before=$(state)
"$@"
if ! difference=$(diff <(echo "$before") <(state)); then
  echo "these files were not what \`$*\` makes; commit what it made:" >&2
  echo "$difference" | awk '/^[<>]/ {print "  " $3}' | sort -u >&2
  exit 1
fi
