# Shared by the scripts in this folder; sourced, never run.
# Each script is quiet and quick when there is nothing to do, safe to call from several shells at once,
# and ends with one sentence that says what to do when it cannot go on.

ROOT=$(cd "$(dirname "$0")/.." && pwd)
ENGINES_DIR=${MEKONG_ENGINES_DIR:-$ROOT/.engines}
TOOLS_DIR=${MEKONG_TOOLS_DIR:-$ROOT/.tools}

say() { printf '%s\n' "$*" >&2; }
die() {
	say "mekong: $*"
	exit 1
}

# need COMMAND SENTENCE: stops with the sentence when the command is missing.
need() {
	command -v "$1" >/dev/null 2>&1 || die "$2"
}

# need_node: Node 20.19 is the oldest that Vite supports.
need_node() {
	need npm "npm was not found: install Node.js 20.19 or newer (it brings npm) and run this again."
	node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
		die "Node.js $(node --version) is too old: install Node.js 20.19 or newer and run this again."
}

# need_go: the version is the one in go.work; Go fetches a newer toolchain by itself unless GOTOOLCHAIN forbids it.
need_go() {
	need go "go was not found: install Go $(go_wanted) or newer from https://go.dev/dl and run this again."
	(cd "$ROOT" && go version >/dev/null 2>&1) ||
		die "this Go is too old: install Go $(go_wanted) or newer from https://go.dev/dl and run this again."
}
go_wanted() { sed -n 's/^go //p' "$ROOT/go.work"; }

# fingerprint FILE...: one hash over the files' contents.
fingerprint() { cat "$@" | cksum | tr -d ' '; }

# current STAMP VALUE: true when the stamp says that VALUE is what was installed last.
current() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# exclusive LOCKFILE: holds the lock until the script ends. Without flock (macOS) calls are not serialised.
exclusive() {
	mkdir -p "$(dirname "$1")"
	command -v flock >/dev/null 2>&1 || return 0
	exec 9>"$1"
	flock 9
}

# retry COMMAND...: three tries, because a download may break off. The output is shown only when all of them fail.
retry() {
	retry_log=$(mktemp)
	for retry_pause in 2 5 0; do
		if "$@" >"$retry_log" 2>&1; then
			rm -f "$retry_log"
			return 0
		fi
		sleep "$retry_pause"
	done
	cat "$retry_log" >&2
	rm -f "$retry_log"
	return 1
}

# npm_tree SOURCE DEST LABEL: DEST/node_modules as SOURCE/package-lock.json says.
# It is installed beside the old tree and swapped in, so that an interrupted run never leaves half a tree.
npm_tree() {
	tree_want=$(fingerprint "$1/package.json" "$1/package-lock.json")
	tree_stamp=$2/node_modules/.mekong-stamp
	current "$tree_stamp" "$tree_want" && return 0
	need_node
	exclusive "$TOOLS_DIR/.$(basename "$2").lock"
	current "$tree_stamp" "$tree_want" && return 0
	say "installing $3 into ${2#"$ROOT"/} …"
	tree_new=$2/.incoming
	rm -rf "$tree_new" "$2/.outgoing"
	mkdir -p "$tree_new"
	cp "$1/package.json" "$1/package-lock.json" "$1/.npmrc" "$tree_new/"
	# shellcheck disable=SC2086 # the flags are words
	retry npm ci --prefix "$tree_new" $4 --no-progress --loglevel=error ||
		die "npm could not install $3 (its messages are above): check the network or the npm registry setting, then run this again."
	printf '%s' "$tree_want" >"$tree_new/node_modules/.mekong-stamp"
	[ ! -d "$2/node_modules" ] || mv "$2/node_modules" "$2/.outgoing"
	mv "$tree_new/node_modules" "$2/node_modules"
	rm -rf "$tree_new" "$2/.outgoing"
}
