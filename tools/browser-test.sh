#!/bin/sh
# Browser tests: starts bin/mekong with the demo workspace on free ports and a data folder of its own, runs web/e2e
# against it, stops it. With MEKONG_URL set it uses that server instead.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

if [ -z "${MEKONG_URL:-}" ]; then
	[ -x bin/mekong ] || die "bin/mekong is missing: run make build."
	work=$(mktemp -d)
	set -- $(node -e '
		const { createServer } = require("node:net");
		const servers = Array.from({ length: 6 }, () => createServer().listen(0, "127.0.0.1"));
		setTimeout(() => { console.log(servers.map((s) => s.address().port).join(" ")); servers.forEach((s) => s.close()); }, 50);
	')
	export MEKONG_HTTP__LISTEN="127.0.0.1:$1" MEKONG_GRPC__LISTEN="127.0.0.1:$2" MEKONG_METRICS__LISTEN="127.0.0.1:$3"
	export MEKONG_EMBEDDED__KAFKA__LISTEN="127.0.0.1:$4" MEKONG_EMBEDDED__CLICKHOUSE__LISTEN="127.0.0.1:$5"
	export MEKONG_EMBEDDED__POSTGRES__LISTEN="127.0.0.1:$6"
	bin/mekong up --demo --data-dir "$work/data" >"$work/log" 2>&1 &
	server=$!
	trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	MEKONG_URL=http://127.0.0.1:$1
	export MEKONG_URL
	waited=0
	until node -e 'fetch(process.env.MEKONG_URL + "/readyz").then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))'; do
		kill -0 "$server" 2>/dev/null || { tail -n 40 "$work/log" >&2; die "bin/mekong ended while starting; its last lines are above."; }
		[ "$waited" -lt 120 ] || { tail -n 40 "$work/log" >&2; die "bin/mekong was not ready within 60 seconds; its last lines are above."; }
		waited=$((waited + 1))
		sleep 0.5
	done
fi
npm --prefix web run --silent e2e
