// Package durable writes files that are still whole after a crash, and keeps two processes out of one directory.
//
// Non-obvious: a rename is durable only after the directory itself was synced; a lock is held by the open file, so the
// kernel frees it when the process dies, however it dies.
package durable
