#!/bin/sh
# Lints the protos and compares them with the committed baseline: a change that breaks a reader of the wire fails.
# With --baseline it writes the baseline instead: do that only when a break is meant and every reader is ready for it.
set -eu
. "$(dirname "$0")/lib.sh"

"$ROOT/tools/node-tools.sh"
cd "$ROOT"
PATH=$TOOLS_DIR/node/node_modules/.bin:$PATH
image=proto/baseline.binpb
if [ "${1:-}" = --baseline ]; then
	buf build --path proto/mekong --exclude-source-info -o "$image"
	exit 0
fi
buf lint
# Images are compared, not folders: the workspace has two modules and the baseline is one image.
now=$(mktemp -d)
trap 'rm -rf "$now"' EXIT
buf build --path proto/mekong -o "$now/now.binpb"
buf breaking "$now/now.binpb" --against "$image" --config '{"version":"v2","breaking":{"use":["FILE"]}}' ||
	die "the protos break readers of the baseline (see above): keep the old field or rpc and add a new one beside it; if the break is meant, run make baseline and say why in the commit."
