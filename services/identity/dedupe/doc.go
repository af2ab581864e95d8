// Package dedupe remembers, per partition of the collector's log, at which offset each event was first seen. An event is
// a duplicate if and only if a lower offset is stored for it: the answer is a function of the log, so asking again for
// the same record, after a crash or by another instance, gives the same answer, and accepting an event and then losing
// it is impossible.
//
// Layout (Pebble): hash(16) ‖ partition(2, BE) → first offset (8, BE). The hash comes first, so that one seek finds an
// event in all partitions (LookupEvents); the Bloom filters hold the hash alone. "m" ‖ partition → applied offset and key
// count; "t" ‖ partition → marks: at which offset each hour began, from which expiry learns what is older than the window.
//
// Invariants:
//   - Keys and the applied offset of their partition are written in one batch; a stored offset only ever sinks.
//   - Writes are not synced, on purpose: what a power cut takes is the newest part, keys and applied offset together, and
//     the log gives it back (the owner reads from the applied offset before it consumes on).
//   - Expiry deletes keys whose first offset is below a floor; it never touches newer ones. A key is found until it is
//     swept, so the window is at least what Window says.
//
// Non-obvious: the block cache should hold the filters, about 1.3 bytes a key; beyond that each look-up of a new event
// reads a filter from the page cache. A damaged store is moved aside when it opens; damage found later is marked, so that
// the next start moves it aside.
package dedupe
