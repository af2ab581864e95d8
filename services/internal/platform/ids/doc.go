// Package ids makes identifiers: UUIDv7 for what we create, UUIDv5 for what must come out the same again, and the
// 128-bit hash that deduplication and the warehouse compare.
package ids
