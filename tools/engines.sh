#!/bin/sh
# The engines of the embedded system (ClickHouse library, PostgreSQL), pinned in tools/engines, into .engines/node_modules.
set -eu
. "$(dirname "$0")/lib.sh"

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
	say "The embedded ClickHouse and PostgreSQL exist for Linux x86-64 only: set MEKONG_CLICKHOUSE__URL and MEKONG_POSTGRES__URL to servers of yours."
	exit 0
fi
# The PostgreSQL package's own install script makes the links that its libraries need.
npm_tree "$ROOT/tools/engines" "$ENGINES_DIR" "the embedded engines (240 MB)" "--foreground-scripts"
