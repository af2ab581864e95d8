// Package identity decides for each accepted event whether it came before and whose it is.
//
// Topics: mekong.collector.events.v1 → mekong.identity.resolved-events.v1 (same key and partition number as the input,
// header src_offset) and mekong.identity.profile-changes.v1 (through the outbox).
// Tables (schema identity): profiles, identifiers, edges, decisions, outbox. On disk: the dedupe window (package dedupe).
//
// Invariants:
//   - An event is a duplicate if and only if a lower offset of its partition is stored for its id; see package dedupe.
//   - The strongest known identifier (user_id before anonymous_id) decides; unknown ones are attached to its profile. An
//     identifier never leaves its profile, and a profile has at most one user_id, so people who share a device stay two.
//   - What changes the graph is decided in one transaction: identifiers locked by hash, then profiles by id. The decision
//     is kept by (partition, src_offset); an event that comes again gets the same one.
//   - Resolved events leave in the order of the input; the producer stops at its first failure; the input offset is
//     committed after the acknowledgement. Nothing is lost at any crash, and what is sent twice has the same src_offset:
//     readers keep the highest and drop what is not above it.
//   - Versions of a profile rise by one, under its row lock; its changes are published in that order.
//
// Non-obvious:
//   - Three paths: all identifiers cached (no database), all known (one read), something new (one transaction). A cached
//     version can be behind when another instance attached something: profile_version is a lower bound.
//   - Decoding reads four fields of the wire format and passes the event on as bytes. It refuses exactly what the
//     generated code refuses, so no reader behind us meets a record that it cannot decode.
//   - After decoding only Invalid leads to a dead letter; every other fault is waited for.
//   - Missing parts of the dedupe window are filled before a partition is consumed: from the log, and below its start from
//     the resolved log and then the warehouse. In that order: what left the resolved log was stored before.
//   - On the embedded Kafka profile-changes is a feed and not a snapshot: profiles can be millions, so they are not
//     published again at start. Who needs all of them reads them from this service.
package identity
