// Package activation sends what happens to where it is needed: it forwards events to destinations, each on its own.
//
// In: mekong.identity.resolved-events.v1 (group mekong.activation.forward). Out: mekong.activation.outcomes.v1, one
// record per attempt. Tables (schema activation): destination, parked_device, parked_message, dead_message,
// partition_claim. Doors: gRPC DestinationService.
//
// How a message travels: the forwarder takes a batch of one partition, asks which destinations want each event, and sends
// to all destinations at once. What cannot be sent now is parked in Postgres, so the offset can be committed: a failing
// or slow destination neither holds the log nor delays another. The retrier sends parked messages when they are due.
//
// Invariants:
//   - An offset is committed only after every message of it was delivered, parked or declared dead.
//   - A device keeps its order for each destination: once one of its messages is parked, all later ones queue behind it.
//     The partition of a device has one owner at a time, and only the owner sends or retries its messages. Rows change
//     only under the newest claim of their partition: an owner that lost it without knowing can change nothing.
//   - A message has the same id on every attempt, so that a receiver can drop repeats: delivery is at least once.
//   - Poison (an answer that is about the message: 400, 409, 413, 415, 422; or a message too old) goes to dead_message
//     and the rest goes on.
//
// Non-obvious: definitions are read again before a batch that is newer than the copy in memory, so an event that arrived
// after CreateDestination had answered is never missed. A refused batch of several messages is halved until the message
// at fault stands alone. A circuit that was open, or a receiver that is slow, gets nothing from the log: the retrier
// probes it, and when it is well again, or its definition was changed, everything parked for it is due at once.
package activation
