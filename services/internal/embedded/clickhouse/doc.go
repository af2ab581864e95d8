// Package clickhouse is the ClickHouse of one machine: the real engine (libchdb) in a child process that serves the
// ClickHouse HTTP interface, so that clickhouse-go, clickhouse-connect and curl work unmodified and a real server is
// only another address.
//
// The parent (Engine) checks the pinned library, spawns this binary again as `engine-clickhouse`, restarts it with
// backoff and stops it. The child (ChildMain) locks the data directory, loads the library without cgo and serves.
//
// Invariants: an acknowledged insert is fsynced; a body that ends early commits nothing; an answer is whole, an HTTP
// error, or a broken stream that ends in an exception, never silently short; a connection is not used again after an
// error; everyone but the owner only reads.
//
// Non-obvious, all measured on the pinned version:
//   - Data given inline to a query ends at the first blank line without an error, so every insert with data takes the
//     streaming-insert calls, VALUES included.
//   - The engine keeps state per thread between the calls of one statement, so a connection is bound to one thread.
//   - After an error a connection mixes the failed answer into the next one, so it is closed.
//   - Settings reach the engine by SET on a fresh connection, not as its arguments: a bad value then gives ClickHouse's
//     own error. Connections are pooled by database and settings.
//   - There are no SQL users in the engine; users, roles and refused statements are made here (guard.go).
//   - The engine answers Native at revision 0; only the handshake of clickhouse-go is answered here, saying so.
//   - Sessions keep no state: session_id is accepted, statements that would need one (SET, USE, temporary tables) are
//     refused.
package clickhouse
