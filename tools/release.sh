#!/bin/sh
# Release files into dist/: one archive and one bill of materials (CycloneDX) per platform, and SHA256SUMS over all.
# The same commit and the same Go give the same archives: paths are trimmed and times come from the commit.
set -eu
. "$(dirname "$0")/lib.sh"

need_go
need tar "tar was not found."
"$ROOT/tools/go-tools.sh" cyclonedx-gomod
cd "$ROOT"
version=${VERSION:-$(git describe --tags --always --dirty)}
time=$(git log -1 --format=%ct)
rm -rf dist
mkdir -p dist
for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	os=${platform%/*}
	arch=${platform#*/}
	name=mekong-$version-$os-$arch
	say "building $name …"
	mkdir -p "dist/$name"
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -tags webdist -ldflags "-s -w -X main.version=$version" \
		-o "dist/$name/mekong" ./services/cmd/mekong
	cp LICENSE "dist/$name/"
	"$TOOLS_DIR/bin/cyclonedx-gomod" bin -json -output "dist/$name.sbom.json" "dist/$name/mekong"
	tar --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner -C dist -cf - "$name" | gzip -n -9 >"dist/$name.tar.gz"
	rm -rf "dist/${name:?}"
done
cd dist
sha256sum ./*.tar.gz ./*.json >SHA256SUMS
say "dist/ holds $(ls | wc -l | tr -d ' ') files of version $version."
