package outbox

import (
	"context"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

// Row is one message.
type Row struct {
	// ID and CreatedAt are set by the database.
	ID        int64
	CreatedAt time.Time

	WorkspaceID string
	Topic       string
	Key         []byte
	// Partition is the fixed partition of the topic; nil lets the key decide.
	Partition *int32
	Headers   map[string]string
	// Value nil is a tombstone.
	Value []byte
}

// Table is the outbox of one context.
type Table struct {
	// Schema is the context's schema.
	Schema string
}

// Append writes rows in their order within tx, in one statement. For keys whose writers exclude each other by a lock that
// they hold until they commit.
func (t Table) Append(ctx context.Context, tx pgx.Tx, rows ...Row) error {
	if len(rows) == 0 {
		return nil
	}
	var (
		workspaces, topics = make([]string, len(rows)), make([]string, len(rows))
		keys, values       = make([][]byte, len(rows)), make([][]byte, len(rows))
		partitions         = make([]*int32, len(rows))
		headers            = make([]map[string]string, len(rows))
	)
	for i, row := range rows {
		if row.WorkspaceID == "" || row.Topic == "" || row.Key == nil {
			return errs.New(errs.Invalid, "outbox_row_invalid", "an outbox row needs a workspace, a topic and a key")
		}
		workspaces[i], topics[i], keys[i] = row.WorkspaceID, row.Topic, row.Key
		partitions[i], values[i], headers[i] = row.Partition, row.Value, row.Headers
		if row.Headers == nil {
			headers[i] = map[string]string{}
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO `+t.name()+` (workspace_id, topic, key, partition, headers, value)
		SELECT w, t, k, p, h, v
		FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::int[], $5::jsonb[], $6::bytea[]) WITH ORDINALITY AS r (w, t, k, p, h, v, n)
		ORDER BY n`, workspaces, topics, keys, partitions, headers, values)
	return postgres.Classify(err)
}

// AppendSerialized is Append for keys whose writers hold no common lock: it takes one per key until tx ends, so that the
// order of ids within a key is the order of commits. Two transactions that call it more than once may deadlock on each
// other's keys; run them under postgres.Retry.
func (t Table) AppendSerialized(ctx context.Context, tx pgx.Tx, rows ...Row) error {
	locks := make([]int64, 0, len(rows))
	for _, row := range rows {
		h := xxhash.New()
		_, _ = h.WriteString(t.Schema + "\x00" + row.WorkspaceID + "\x00" + row.Topic + "\x00") // never fails
		_, _ = h.Write(row.Key)
		locks = append(locks, int64(h.Sum64())) //nolint:gosec // any 64 bits do
	}
	slices.Sort(locks)
	locks = slices.Compact(locks)
	// A scan of unnest gives the array's order, so all writers lock in the same order.
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k", locks); err != nil {
		return postgres.Classify(err)
	}
	return t.Append(ctx, tx, rows...)
}

// Backlog returns how many rows wait and how long the oldest has, by the server's clock.
func (t Table) Backlog(ctx context.Context, db *postgres.DB) (rows int64, oldest time.Duration, err error) {
	err = db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*), coalesce(greatest(clock_timestamp() - min(created_at), '0'), '0') FROM "+t.name()).Scan(&rows, &oldest)
	}, postgres.ReadOnly)
	return rows, oldest, err
}

func (t Table) name() string { return pgx.Identifier{t.Schema, "outbox"}.Sanitize() }
