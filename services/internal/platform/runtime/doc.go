// Package runtime starts what a process consists of in the order of its needs, stops it in reverse, and stops all of
// it when one part fails.
//
// A Module is a row of the module table: its name, the names that it needs, and a function that builds its runners. A
// module is built and started when everything it needs has started; it is stopped before anything it needs.
//
// Non-obvious: "started" (it serves) and "ready" (it has caught up) differ: only the first orders the start, the second
// feeds /readyz.
package runtime
