package warehouse

import (
	"context"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// ClickHouseTables are the Tables that production uses. One insert at a time: its blocks are reused.
type ClickHouseTables struct {
	db     *clickhouse.DB
	stamp  *stamp
	events *block
	person *block
	probe  *block
}

// NewClickHouseTables returns tables in the database of db.
func NewClickHouseTables(db *clickhouse.DB) *ClickHouseTables {
	s := &stamp{}
	return &ClickHouseTables{db: db, stamp: s, events: newEventBlock(s), person: newPersonBlock(s), probe: newProbeBlock()}
}

// insertSettings: strings that look like dates stay strings in JSON columns, and a batch may span any number of months.
func insertSettings() map[string]string {
	return map[string]string{
		"input_format_try_infer_dates": "0", "input_format_try_infer_datetimes": "0", "max_partitions_per_insert_block": "0",
	}
}

// Insert implements Tables. Both tables are written at the same time; it returns when both requests have ended.
func (t *ClickHouseTables) Insert(ctx context.Context, batch Batch, rows []*Row) error {
	t.stamp.batch, t.stamp.at = batch.ID, batch.CreatedAt.UnixMilli()
	var group errgroup.Group
	group.Go(func() error { return t.write(ctx, tableByPerson, t.person, queryID(batch.ID, tableByPerson), rows) })
	group.Go(func() error { return t.write(ctx, tableEvents, t.events, queryID(batch.ID, tableEvents), rows) })
	return group.Wait()
}

func (t *ClickHouseTables) write(ctx context.Context, table string, b *block, queryID string, rows []*Row) error {
	b.reset()
	for _, row := range rows {
		b.append(row)
	}
	_, err := t.db.Insert(ctx, &b.encoder, clickhouse.Insert{
		Table: table, Columns: b.columns, QueryID: queryID, Settings: insertSettings(),
	})
	return err
}

func queryID(id uuid.UUID, table string) string { return id.String() + "." + table }

// Count implements Tables.
func (t *ClickHouseTables) Count(ctx context.Context, batch Batch) (Counts, error) {
	var events, person uint64
	at := batch.CreatedAt.UnixMilli()
	err := t.db.QueryRow(ctx,
		"SELECT (SELECT count() FROM "+tableEvents+" WHERE _inserted_at = fromUnixTimestamp64Milli(?, 'UTC') AND _batch = ?), "+
			"(SELECT count() FROM "+tableByPerson+" WHERE _inserted_at = fromUnixTimestamp64Milli(?, 'UTC') AND _batch = ?)",
		[]any{at, batch.ID, at, batch.ID}, &events, &person)
	return Counts{tableEvents: int(events), tableByPerson: int(person)}, err //nolint:gosec // counts of one batch
}

// Kill implements Tables.
func (t *ClickHouseTables) Kill(ctx context.Context, batch Batch) error {
	return t.db.Kill(ctx, queryID(batch.ID, tableEvents), queryID(batch.ID, tableByPerson))
}

// Delete implements Tables. A mutation, not a lightweight delete: the rows must be gone for every reader.
func (t *ClickHouseTables) Delete(ctx context.Context, batch Batch) error {
	for _, table := range []string{tableEvents, tableByPerson} {
		if err := t.db.Exec(ctx, "ALTER TABLE "+table+" DELETE WHERE _batch = ? SETTINGS mutations_sync = 2", batch.ID); err != nil {
			return err
		}
	}
	return nil
}

// Refused implements Tables: it halves the rows against a table that keeps nothing until the rows at fault are alone.
func (t *ClickHouseTables) Refused(ctx context.Context, rows []*Row) ([]*Row, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	err := t.write(ctx, "events_probe", t.probe, "", rows)
	switch {
	case err == nil:
		return nil, nil
	case errs.KindOf(err) != errs.Invalid:
		return nil, err
	case len(rows) == 1:
		return rows, nil
	}
	first, err := t.Refused(ctx, rows[:len(rows)/2])
	if err != nil {
		return nil, err
	}
	second, err := t.Refused(ctx, rows[len(rows)/2:])
	return append(first, second...), err
}

// scanWindow is how many offsets one question of ScanHashes covers; it bounds what ClickHouse groups at once.
const scanWindow = 1 << 20

// ScanHashes calls yield with blocks of event hashes and the first offset of each, of a partition's offsets from (inclusive)
// to to (exclusive). A hash whose events lie in several windows comes again with a larger offset.
func (t *ClickHouseTables) ScanHashes(ctx context.Context, partition int32, from, to int64, yield func(hashes [][]byte, offsets []int64) error) error {
	last, err := t.lastOffset(ctx, partition)
	if err != nil {
		return err
	}
	for start := from; start < to && start <= last; start += scanWindow {
		if err := t.scanWindow(ctx, partition, start, min(start+scanWindow, to), yield); err != nil {
			return err
		}
	}
	return nil
}

func (t *ClickHouseTables) lastOffset(ctx context.Context, partition int32) (int64, error) {
	var last int64
	err := t.db.QueryRow(ctx, "SELECT if(count() = 0, -1, toInt64(max(src_offset))) FROM "+tableByPerson+" WHERE src_partition = ?",
		[]any{partition}, &last)
	return last, err
}

func (t *ClickHouseTables) scanWindow(ctx context.Context, partition int32, from, to int64, yield func([][]byte, []int64) error) error {
	rows, err := t.db.Query(ctx, "SELECT event_hash, toInt64(min(src_offset)) FROM "+tableEvents+
		" WHERE src_partition = ? AND src_offset >= ? AND src_offset < ? GROUP BY event_hash", partition, from, to)
	if err != nil {
		return err
	}
	defer rows.Close()
	hashes, offsets := make([][]byte, 0, scanBlock), make([]int64, 0, scanBlock)
	for rows.Next() {
		var hash string
		var offset int64
		if err := rows.Scan(&hash, &offset); err != nil {
			return clickhouse.Classify(err)
		}
		hashes, offsets = append(hashes, []byte(hash)), append(offsets, offset)
		if len(hashes) == scanBlock {
			if err := yield(hashes, offsets); err != nil {
				return err
			}
			hashes, offsets = hashes[:0], offsets[:0]
		}
	}
	if err := rows.Err(); err != nil {
		return clickhouse.Classify(err)
	}
	if len(hashes) == 0 {
		return nil
	}
	return yield(hashes, offsets)
}

// scanBlock is how many hashes go into one message.
const scanBlock = 65_536
