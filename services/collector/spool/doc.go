// Package spool is a durable queue in one directory: many writers append, one reader forwards and trims. An append
// returns only after its bytes are on the disk; one goroutine gathers all waiting appends into one block, one write and
// one fdatasync (group commit).
//
// Files of the directory:
//
//	LOCK               taken while a process has the spool open
//	VERSION            "1"
//	CURSOR             "MKCURS01", trimmed position, durable end when it was written, CRC-32C; replaced atomically
//	<position>.seg     segments; the name is the position of the first byte after the header, 20 digits
//
// A segment is a header and blocks, all numbers little-endian:
//
//	header  "MKSPOOL1"  base u64  mark u32  crc u32                                            24 bytes
//	block   mark u32  length u32  crc u32  count u32  unix-ms u64, then length bytes of records
//	record  topic, key, number of headers, (name, value)…, value; each a uvarint length and its bytes
//
// A block's CRC-32C covers its position, length, count, time and records. Positions count block bytes over all segments,
// so that segment n+1 begins where n ends and a lost file is noticed. The mark is random per segment: nobody who sends
// events can forge something that looks like a block.
//
// Invariants: a block is written only after the one before it was synced; so a bad block at the very end of the last
// segment is a torn write that was never acknowledged (it is cut), and a bad block before a good one, or below a durable
// end that CURSOR remembers, is damage: Open refuses. A failed write other than a full disk, or a failed sync, closes
// the spool for good: what the page cache then holds is unknown. After a full disk the file is truncated back and the
// next append tries again. Every Open begins a new segment; files are never reused.
//
// Non-obvious: CURSOR is written at most once per CursorInterval and before a segment is deleted, so a crash makes the
// reader see up to that much again; a bit flipped in the last block cannot be told from a torn write unless CURSOR
// remembers its end.
package spool
