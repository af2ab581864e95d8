#!/bin/sh
# Python clients for the tests, pinned in tools/python/requirements.txt, into .tools/py.
set -eu
. "$(dirname "$0")/lib.sh"

want=$(fingerprint "$ROOT/tools/python/requirements.txt")
stamp=$TOOLS_DIR/py/.mekong-stamp
current "$stamp" "$want" && exit 0
need python3 "python3 was not found: the tests need Python 3.10 or newer with its venv module."
python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
	die "the tests need Python 3.10 or newer with its venv module (on Debian and Ubuntu: apt-get install python3-venv)."
exclusive "$TOOLS_DIR/.py.lock"
current "$stamp" "$want" && exit 0
say "installing the Python test clients into .tools/py …"
[ -x "$TOOLS_DIR/py/bin/pip" ] || python3 -m venv "$TOOLS_DIR/py" ||
	die "python3 could not make a virtual environment: install its venv module (on Debian and Ubuntu: apt-get install python3-venv)."
retry "$TOOLS_DIR/py/bin/pip" install --quiet --only-binary=:all: -r "$ROOT/tools/python/requirements.txt" ||
	die "pip could not install the test clients (its messages are above): check the network or the pip index setting, then run this again."
printf '%s' "$want" >"$stamp"
