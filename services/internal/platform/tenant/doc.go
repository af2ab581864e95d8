// Package tenant carries who is calling, and what they may do, through a request.
//
// Non-obvious: a workspace that the caller may not act in is answered as one that does not exist, so that ids cannot be
// probed; row-level security holds the same line again in Postgres.
package tenant
