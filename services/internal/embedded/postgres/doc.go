// Package postgres runs a real PostgreSQL server as a child process, for one machine: it prepares the data directory,
// supervises the server, and backs it up and restores it without any tool of PostgreSQL beyond initdb and postgres.
//
// Below DataDir: pg/ (the server's files), run/ (its unix socket and host rules, 0700), password and admin_password
// (0600), LOCK. The services use URL(), a login role without superuser rights that owns the database "mekong".
//
// Invariants:
//   - pg/ exists only complete: initdb and restore work in pg.new and rename it at the end.
//   - One process per DataDir (flock); a postmaster that outlived a killed parent is recognised by its working
//     directory and ended before a new one starts.
//   - The server never runs as root: it gets the owner of pg/, else user "postgres", else "nobody".
//   - No statement and no value reaches the log: of the server's errors only those that speak of the machine pass.
//
// Non-obvious:
//   - The child dies with its parent by PR_SET_PDEATHSIG, which is tied to the thread that forked, not to the process:
//     each child has a locked thread for as long as it lives.
//   - When a parent folder shuts the unprivileged user out (a clone under a 0700 home), the child keeps the capability to
//     pass and read folders, and the forking thread sets a securebit, because access(2) would ignore the capability.
//   - The bundle is built without lz4, and without a client: tests use the psql of the machine.
package postgres
