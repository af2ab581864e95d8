// Package e2e tests the built binary through its public doors only, in two topologies: everything in one process with
// embedded engines, and one process per service against a real Apache Kafka. The same test bodies run in both.
//
// The kill ledger lives here: a generator notes every acknowledged event, processes are killed at random moments, and in
// the end the door, ClickHouse and a webhook receiver are compared with the notes.
//
// `make test` runs the short size; MEKONG_TEST_SIZE=full (`make verify`) the full one.
package e2e
