#!/bin/sh
# All benchmarks with their yardsticks (make bench). Arguments go to the program: bench/run.sh --only door --rounds 5
# The working copy must be built (make build) and have its engines (make engines).
set -eu
cd "$(dirname "$0")/.."
mkdir -p bin
go build -o bin/mekong-bench ./services/bench
exec bin/mekong-bench --root . --results bench/results "$@"
