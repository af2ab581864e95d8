// Package collector is the door: it takes events over HTTP, accepts or refuses each one, makes it durable, answers, and
// takes it to Kafka.
//
// Topics out: mekong.collector.events.v1 (Event; key "<workspace>:<anonymous id, else user id>"),
// mekong.collector.rejected.v1 (RejectedEvent; key "<workspace>:<source>"). In: mekong.admin.config-changes.v1, read
// from its beginning by every process, without a group. Stores: the spool (package spool), no tables.
//
// The way of a request: rate of the address → write key → body (limits, decompression) → decode → rate of the source →
// per event: refuse, recognise as a duplicate, or accept → one append with everything → answer. An answer of 200 is
// given only after the append is durable: in the spool where there is a volume, else in Kafka.
//
// What is stored. properties, traits and context are the very bytes that were sent (a batch's context is merged into
// that of its events). An event of the shop contract keeps the whole event object as its properties, so that ecom.*,
// props.*, page_url, device and geo can be read from there; wire is "v1/events" then, and context is empty. A member
// that occurs twice counts with its last value. The table of names and steps is in mapping.go.
//
// Times. ts = received_at - (sent_at - own time) when the sender said when it sent, else its own time; before 2000 or
// more than a day ahead it is the time of receipt, flagged. A time that cannot be read at all refuses the event.
//
// Ids. An event without an id gets the UUIDv5 of source, distinct id, type, name, time, properties and traits, so that
// a repetition is the same event; without a time it gets a new id, for two equal clicks are two.
//
// Duplicates. "duplicate" is answered on proof only: the event was appended by this door before (a bounded index,
// filled after the sync), stands twice in the request, or identity knows it. Such an event is not appended again.
// Everything else is "ok", and identity drops what it has seen.
//
// Non-obvious:
//   - Refused events travel through the same append, so an answer that counts them is as durable as any other.
//   - Keys are a read model; an unknown key costs one call to admin, its refusal is remembered for 5 s.
//   - Bodies are recognised by what they are, not by Content-Type: browsers send text/plain, some SDKs gzip silently.
//   - A value with invalid UTF-8, nested too deeply or with NUL in an identifier refuses its event, not its batch.
//   - Repeating what the forwarder sent before a crash is harmless: identity's dedupe is a function of the log.
package collector
