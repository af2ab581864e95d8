// Package testkit gives tests real engines: each test gets a database, a topic prefix or a server of its own, and a
// missing engine fails the test instead of skipping it.
//
// Non-obvious: engines are started at the first use and shared by the tests of one process; they end with it even when it
// is killed. Only here are writes not synced to disk.
package testkit
