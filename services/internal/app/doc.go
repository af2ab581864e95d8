// Package app puts a process together: the root configuration, the module table and the targets. It is the only package
// that knows all contexts.
//
// How a process comes to be: Load makes the configuration, New resolves every engine to an address (an embedded one is
// created here but not started), the module table in modules.go says who needs whom, and Run starts what the targets
// need. The same table serves `mekong up` (target all, embedded engines) and each service of a cluster.
//
// Non-obvious: an engine is embedded exactly when no address is set for it; nothing behind this package can tell. Services
// of one process reach each other over an in-memory listener, with the same interceptors as over the network.
package app
