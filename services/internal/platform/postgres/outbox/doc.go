// Package outbox carries messages from a PostgreSQL transaction to a log: a row is written with the change that it tells
// of, a relay publishes it and then deletes it. A context creates its table in a migration:
//
//	SELECT mekong.create_outbox('identity');
//
// Guarantees:
//   - No row is lost, and none of a transaction that rolled back is published. A row may be published twice (the relay
//     died between publishing and deleting); repeats are equal to the byte.
//   - Two rows of one key, of which the second was inserted after the transaction of the first had committed, are
//     published in this order. A writer that holds a lock on what the key names (a profile's row) from before Append to
//     its commit has this for free; one that holds none calls AppendSerialized.
//   - One relay per table works at a time; another takes over when its session ends.
//
// Non-obvious, why reading is as it is: identity values are drawn in another order than transactions commit, so the relay
// reads only rows of transactions below the snapshot's xmin: nothing older can still appear beside them. That alone
// breaks the order of a key: with transactions A < C < B, where C runs long, B writes row 3 and commits, and A, which had
// waited for B's lock, writes row 5 and commits; row 5 is below xmin (C) and row 3 is not. So the relay also stops at the
// first visible row that is not below it: whoever saw B's commit is never ahead of B. The price: a long transaction that
// has written anything delays every outbox of the server until it ends, which the timeouts of the pool bound.
package outbox
