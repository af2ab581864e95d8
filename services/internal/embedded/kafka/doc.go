// Package kafka is the Kafka of one machine: kfake, a broker for tests by its own charter, kept within the rules that
// make it hold data. A cluster uses a real Kafka instead; only the address differs.
//
// Rules and the measured facts behind them:
//
//   - Every batch is fsynced. kfake ignores what fsync returns, so a canary file in the same directory is written and
//     fsynced every second and a failure stops the process. A failed write is noticed at once through kfake's log:
//     from then on nothing is accepted, since kfake has counted the sequence numbers of a batch that it did not store
//     and may take a retry for a duplicate.
//   - kfake's retention and compaction are off: they may empty a partition, and then offsets restart at 0 after a
//     reopen. The keeper deletes records instead, up to what all required groups have committed, and always leaves
//     the last one. Retention settings of topics are dropped.
//   - A topic over its size limit refuses records (POLICY_VIOLATION, which producers report at once) until consumers
//     catch up: memory at reopen is about the size of the log.
//   - Before opening, all segments are read: damage with records behind it, or a log that ends below what the canary
//     saw, refuses the start. kfake alone would cut the log there without a word. A torn tail is cut.
//   - A log that ends below a committed offset refuses the start.
//   - The directory is locked and marked with the version of kfake; data of a newer one is refused.
//
// Limits: one broker, one event loop, no replication, no compaction; records deleted before a crash may reappear at
// the start of a partition; a producer that retries across a crash may write a batch twice.
package kafka
