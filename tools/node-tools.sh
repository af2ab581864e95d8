#!/bin/sh
# Pinned command-line tools from npm (buf, biome), into .tools/node/node_modules/.bin.
set -eu
. "$(dirname "$0")/lib.sh"

npm_tree "$ROOT/tools/node" "$TOOLS_DIR/node" "buf and biome" "--ignore-scripts"
