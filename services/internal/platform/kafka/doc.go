// Package kafka is what every context uses to talk to Kafka, embedded or real: a client with our defaults, a Publisher
// that stops at the first failure, a Consumer loop that commits only after success, topic creation and header names.
//
// Publisher. Records of one call go out in order. When one fails, no later record of its partition is written: a gap
// followed by later offsets would make consumers that keep a watermark drop the retry. A call ends by its deadline
// with errs.Unavailable, even when the broker is gone and the client library would wait for minutes.
//
// Consumer. poll → one lane per partition, in order → Handler → classify the error by its kind → commit. Invalid,
// Unauthenticated, Forbidden, NotFound and Precondition go to "<topic>.dlq"; Conflict and Internal are retried a bounded
// number of times, then go there too; RateLimited waits for the hint; Unavailable waits with backoff for as long as it
// takes, without a commit, while the partition is paused. A batch that fails is halved until the record at fault is alone.
//
// Watermark. Records carry the header src_offset, rising within a partition. The highest one handled is stored in the
// metadata of the same offset commit, and records that are not above it are dropped: rebalances, zombies and replays are
// then harmless without fencing. At most one record per partition may carry a given src_offset.
//
// Non-obvious: after a Publish returned by its deadline, its records may still be written later, in order and before
// those of any later call; records must not be changed after they were given to Publish. Commits are gathered for
// CommitInterval, so a crash repeats up to that much work: handlers are idempotent.
package kafka
