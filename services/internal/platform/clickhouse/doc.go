// Package clickhouse is the one door to ClickHouse: clickhouse-go over the HTTP interface for questions, a columnar
// insert that writes one Native block per request, migrations, and errors mapped to kinds. The embedded engine and a real
// server differ only by the address.
//
// Insert encodes columns that the caller filled (package proto of ch-go) and posts them with a query id, so that a
// caller whose request was cut off can look for the statement, kill it and count what it wrote. It does not retry.
//
// Invariants:
//   - Statement texts, parameters and values leave neither in spans nor in errors: ClickHouse quotes data in its
//     messages, so SQLError prints number and name, and the message only where it speaks of the statement.
//   - Migrations are forward-only and every statement is idempotent: ClickHouse has no transactions, so a migration that
//     was cut off is run again from its start.
//
// Non-obvious:
//   - A block is encoded at protocol revision 0: the HTTP interface takes no other for inserts.
//   - One INSERT is atomic per partition of the table only; a block that spans two months may be stored by half.
//   - Open creates the database named in the address when it does not exist, because a connection to a missing database
//     cannot even say hello.
package clickhouse
