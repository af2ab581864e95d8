#!/bin/sh
# Operating-system packages for the tests: Chromium (browser tests) and psql (client test).
# Installed only as root on Debian and Ubuntu; anywhere else the command is printed and the run stops.
set -eu
. "$(dirname "$0")/lib.sh"

missing=
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || [ -x "${MEKONG_CHROMIUM:-}" ] || missing=chromium
command -v psql >/dev/null 2>&1 || missing="$missing postgresql-client"
missing=${missing# }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	exclusive "$TOOLS_DIR/.apt.lock"
	say "installing $missing with apt-get …"
	export DEBIAN_FRONTEND=noninteractive
	retry apt-get update -q || die "apt-get update failed (its messages are above)."
	# shellcheck disable=SC2086 # a list of words
	retry apt-get install -y -q --no-install-recommends $missing || die "apt-get could not install $missing (its messages are above)."
	exit 0
fi
die "the tests need $missing: run 'sudo apt-get install --no-install-recommends $missing' (Debian, Ubuntu) or install them in your system's way; MEKONG_CHROMIUM may name the browser's path."
