// Package httpserver is the HTTP edge of a process: one server with request ids, traces, TLS by files or ACME, and the
// one mapping from error kinds to status codes.
//
// Non-obvious: stopping first fails /readyz, then waits, then drains, so that a balancer has time to look away.
package httpserver
