#!/bin/sh
# Everything generated from proto/: Go messages, gRPC and gateway code, and the OpenAPI document.
set -eu
. "$(dirname "$0")/lib.sh"

"$ROOT/tools/node-tools.sh"
"$ROOT/tools/go-tools.sh" protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway protoc-gen-openapiv3
cd "$ROOT"
PATH=$TOOLS_DIR/bin:$TOOLS_DIR/node/node_modules/.bin:$PATH
export PATH
mkdir -p .tools/openapi
exclusive "$TOOLS_DIR/.generate.lock"
buf generate
node tools/openapi.mjs .tools/openapi proto/gen/openapi/mekong.json
