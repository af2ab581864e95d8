// Package warehouse is the only writer of ClickHouse: it stores each resolved event once, in the table events and in the
// slim table events_by_person, and serves what other services ask of them.
//
// In: mekong.identity.resolved-events.v1. Out: nothing. Postgres, schema warehouse: batches, batch_partitions, watermarks.
// ClickHouse: events, events_by_person, the view fact_events.
//
// How each event is stored once. ClickHouse cannot take an insert back: it may be half done (one part per month), done
// without our knowing, or be done later by a process that was paused. So an insert is announced first:
//
//	announce (Postgres, compare-and-swap of each partition's watermark) → insert both tables, every row carrying the
//	batch id → count → commit (watermark := last offset of the batch) → Kafka offset
//
// Whoever meets a pending batch (after an error, a crash, a rebalance) settles it: kill its inserts, count its rows; all
// there → commit; else condemn → delete → release, and its events are announced again under a new id, read from Kafka.
//
// Invariants:
//   - A partition has at most one unsettled batch; a new one starts exactly at the watermark. The watermark in Postgres is
//     the truth, the consumer group's offset a hint: events at or below the watermark are dropped.
//   - A batch id is inserted once. Rows are deleted only of batches that are condemned or aborted, and these can never be
//     committed: no instance deletes what another commits, so nothing is lost.
//   - Rows of an aborted batch that arrive late (a paused process) are deleted by that process when its commit fails, else
//     by the sweeper, which looks at aborted batches for an hour. Until then readers may see such rows twice.
//
// Non-obvious:
//   - Inserts are at most MaxRows; batches of all partitions go together, because parts are what ClickHouse pays for.
//   - Rows carry the time of their announcement in _inserted_at; its index makes counting a batch cheap in a big table.
//   - One bad document must not fail a batch: what the JSON type refuses or bends (integers beyond 64 bits, 1e400, equal
//     keys, dots in keys, broken characters, deep nesting) is rewritten and flagged before; should ClickHouse still refuse
//     a block, the rows at fault are found against a Null table and stored as text only. properties_raw is always as sent.
//   - JSON columns are made by expressions: read from a block, they would turn strings like "2026-1-5" into dates.
//   - device_hash in the sorting keys keeps a device together; event_hash is what deduplication compares.
package warehouse
