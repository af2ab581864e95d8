#!/bin/sh
# Pinned Go tools into .tools/bin. Usage: tools/go-tools.sh [NAME...]   (no name: all of them)
#                                         tools/go-tools.sh --need      (only checks that Go itself is there)
set -eu
. "$(dirname "$0")/lib.sh"

PINS='
golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
protoc-gen-go-grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
protoc-gen-grpc-gateway github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.33.0
protoc-gen-openapiv3 github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv3@v2.33.0
cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
'

if [ "${1:-}" = --need ]; then
	need_go
	exit 0
fi
bin=$TOOLS_DIR/bin
[ $# -gt 0 ] || set -- $(printf '%s' "$PINS" | sed 's/ .*//')

for name in "$@"; do
	pin=$(printf '%s' "$PINS" | sed -n "s/^$name //p")
	[ -n "$pin" ] || die "tools/go-tools.sh knows no tool named $name: use one of $(printf '%s' "$PINS" | sed 's/ .*//' | tr '\n' ' ')."
	[ -x "$bin/$name" ] && current "$bin/.$name.pin" "$pin" && continue
	need_go
	exclusive "$bin/.lock"
	[ -x "$bin/$name" ] && current "$bin/.$name.pin" "$pin" && continue
	say "building $pin …"
	# GOFLAGS and GOOS of the caller must not leak into tools that run here.
	retry env GOWORK=off GOFLAGS= GOOS= GOARCH= GOBIN="$bin" go install -trimpath "$pin" ||
		die "go could not build $pin (its messages are above): check the network or GOPROXY, then run this again."
	printf '%s' "$pin" >"$bin/.$name.pin"
done
