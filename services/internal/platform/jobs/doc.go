// Package jobs is a queue of jobs in PostgreSQL (River) for timers and schedules of minutes and more: a job is inserted in
// the transaction that decides it, runs after the commit, and is tried again when it fails.
//
// Invariants: a job runs at least once; workers must be harmless when repeated. Arguments name things by id and hold no
// personal data: they are not under row-level security and stay a day after the job.
//
// Non-obvious: each context has a queue schema of its own, river_<context>. River's leader discards stuck jobs of kinds
// that its process does not know, so processes with different workers must not share one.
package jobs
