// Package rpc is the gRPC edge of a process: a server with health, reflection, authentication and the one mapping from
// error kinds to codes, and connections to other services that map the codes back.
//
// Within one process a connection runs over an in-memory listener: the same marshalling, interceptors and deadlines as
// over the network, so that a single binary and a cluster run the same code.
//
// Invariants: a call without a valid token reaches no handler, except health and reflection; a service that is not
// listed as public answers only to the installation's own service token; every call has a deadline.
package rpc
