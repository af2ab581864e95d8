#!/bin/sh
# The dependencies of web/ as its lock file says.
set -eu
. "$(dirname "$0")/lib.sh"

npm_tree "$ROOT/web" "$ROOT/web" "the web dependencies" "--ignore-scripts"
