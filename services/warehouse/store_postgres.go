package warehouse

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

// PostgresLedger is the Ledger and Graveyard that production uses. Its tables belong to no tenant: a batch mixes them.
type PostgresLedger struct {
	db *postgres.DB
}

// NewPostgresLedger returns a ledger over the schema warehouse.
func NewPostgresLedger(db *postgres.DB) *PostgresLedger { return &PostgresLedger{db: db} }

// Watermarks implements Ledger.
func (l *PostgresLedger) Watermarks(ctx context.Context) (map[int32]Watermark, error) {
	out := map[int32]Watermark{}
	err := l.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(out)
		rows, err := tx.Query(ctx, "SELECT src_partition, src_offset, pending FROM warehouse.watermarks")
		if err != nil {
			return err
		}
		var partition int32
		var offset int64
		var pending *uuid.UUID
		_, err = pgx.ForEachRow(rows, []any{&partition, &offset, &pending}, func() error {
			mark := Watermark{Offset: offset}
			if pending != nil {
				mark.Pending = *pending
			}
			out[partition] = mark
			return nil
		})
		return err
	}, postgres.ReadOnly)
	return out, err
}

// Announce implements Ledger.
func (l *PostgresLedger) Announce(ctx context.Context, batch Batch) error {
	partitions := make([]int32, len(batch.Spans))
	from, to := make([]int64, len(batch.Spans)), make([]int64, len(batch.Spans))
	for i, span := range batch.Spans {
		partitions[i], from[i], to[i] = span.Partition, span.From, span.To
	}
	err := l.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var steps pgx.Batch
		steps.Queue(`INSERT INTO warehouse.batches (id, state, owner, rows, created_at) VALUES ($1, 'pending', $2, $3, $4)`,
			batch.ID, batch.Owner, batch.Rows, batch.CreatedAt)
		steps.Queue(`INSERT INTO warehouse.batch_partitions (batch_id, src_partition, from_offset, to_offset)
			SELECT $1, p, f, t FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS x (p, f, t)`,
			batch.ID, partitions, from, to)
		// Rows are locked in the order of their partitions, so that two instances cannot wait for each other.
		steps.Queue(`INSERT INTO warehouse.watermarks (src_partition, src_offset)
			SELECT p, -1 FROM unnest($1::int[]) AS x (p) ORDER BY p ON CONFLICT DO NOTHING`, partitions)
		steps.Queue(`SELECT FROM warehouse.watermarks WHERE src_partition = ANY($1) ORDER BY src_partition FOR UPDATE`, partitions)
		if err := tx.SendBatch(ctx, &steps).Close(); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE warehouse.watermarks w SET pending = $1, updated_at = now()
			FROM unnest($2::int[], $3::bigint[]) AS x (p, f)
			WHERE w.src_partition = p AND w.src_offset = f AND w.pending IS NULL`,
			batch.ID, partitions, from)
		if err == nil && tag.RowsAffected() != int64(len(batch.Spans)) {
			return errWatermarkMoved()
		}
		return err
	})
	if errs.KindOf(err) == errs.Conflict {
		return errs.Wrap(err, errs.Conflict, "watermark_moved", "another instance has announced or stored events of these partitions")
	}
	return err
}

// Commit implements Ledger.
func (l *PostgresLedger) Commit(ctx context.Context, id uuid.UUID) error {
	return l.move(ctx, id, Pending, Committed,
		`UPDATE warehouse.watermarks w SET src_offset = b.to_offset, pending = NULL, updated_at = now()
		 FROM warehouse.batch_partitions b WHERE b.batch_id = $1 AND w.src_partition = b.src_partition AND w.pending = $1`)
}

// Condemn implements Ledger.
func (l *PostgresLedger) Condemn(ctx context.Context, id uuid.UUID) error {
	err := l.move(ctx, id, Pending, Condemned, "")
	if errs.KindOf(err) != errs.Conflict {
		return err
	}
	batch, err := l.Load(ctx, id)
	if err == nil && batch.State == Committed {
		return errBatchSettled()
	}
	return err
}

// Release implements Ledger.
func (l *PostgresLedger) Release(ctx context.Context, id uuid.UUID) error {
	return l.move(ctx, id, Condemned, Aborted,
		`UPDATE warehouse.watermarks SET pending = NULL, updated_at = now() WHERE pending = $1`)
}

// move changes the state of a batch and, with it, the watermarks of its partitions.
func (l *PostgresLedger) move(ctx context.Context, id uuid.UUID, from, to State, watermarks string) error {
	return l.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx,
			`UPDATE warehouse.batches SET state = $3, settled_at = now() WHERE id = $1 AND state = $2`, id, string(from), string(to))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			var state State
			if err := tx.QueryRow(ctx, "SELECT state FROM warehouse.batches WHERE id = $1", id).Scan(&state); err != nil {
				return err
			}
			if state == to {
				return nil
			}
			return errBatchSettled()
		}
		if watermarks != "" {
			_, err = tx.Exec(ctx, watermarks, id)
		}
		return err
	})
}

const batchColumns = `SELECT b.id, b.state, b.owner, b.rows, b.created_at,
	array_agg(p.src_partition ORDER BY p.src_partition), array_agg(p.from_offset ORDER BY p.src_partition),
	array_agg(p.to_offset ORDER BY p.src_partition)
	FROM warehouse.batches b JOIN warehouse.batch_partitions p ON p.batch_id = b.id `

// Load implements Ledger.
func (l *PostgresLedger) Load(ctx context.Context, id uuid.UUID) (Batch, error) {
	batches, err := l.list(ctx, batchColumns+"WHERE b.id = $1 GROUP BY b.id", id)
	if err != nil {
		return Batch{}, err
	}
	if len(batches) == 0 {
		return Batch{}, errBatchMissing()
	}
	return batches[0], nil
}

// Aborted implements Graveyard.
func (l *PostgresLedger) Aborted(ctx context.Context, window time.Duration) ([]Batch, error) {
	return l.list(ctx, batchColumns+"WHERE b.state = 'aborted' AND b.settled_at >= now() - $1::interval GROUP BY b.id", window)
}

// Forget implements Graveyard.
func (l *PostgresLedger) Forget(ctx context.Context, age time.Duration) error {
	return l.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			"DELETE FROM warehouse.batches WHERE state IN ('committed', 'aborted') AND settled_at < now() - $1::interval", age)
		return err
	})
}

func (l *PostgresLedger) list(ctx context.Context, query string, args ...any) ([]Batch, error) {
	var out []Batch
	err := l.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanBatch)
		return err
	}, postgres.ReadOnly)
	return out, err
}

func scanBatch(row pgx.CollectableRow) (Batch, error) {
	var batch Batch
	var partitions []int32
	var from, to []int64
	err := row.Scan(&batch.ID, &batch.State, &batch.Owner, &batch.Rows, &batch.CreatedAt, &partitions, &from, &to)
	batch.CreatedAt = batch.CreatedAt.UTC()
	for i := range partitions {
		batch.Spans = append(batch.Spans, Span{Partition: partitions[i], From: from[i], To: to[i]})
	}
	return batch, err
}
