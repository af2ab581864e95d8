// Package chtest holds what tests need around ClickHouse: a real embedded engine of their own and the conformance suite
// that the embedded engine and an external server must pass alike.
//
// Non-obvious: the engine runs in a child process, which is the test binary again; a package that starts one must hand
// its TestMain to Main.
package chtest
