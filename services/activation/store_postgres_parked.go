package activation

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

// Take implements ParkedStore.
func (s *postgresStore) Take(ctx context.Context, partitions []int32) (taken []takenPartition, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		taken = nil
		// Changes hold their claim FOR SHARE, so this waits for those under way.
		rows, err := tx.Query(ctx, `INSERT INTO activation.partition_claim AS c (src_partition, epoch)
			SELECT p, 1 FROM (SELECT DISTINCT unnest($1::int[]) AS p ORDER BY p) AS wanted
			ON CONFLICT (src_partition) DO UPDATE SET epoch = c.epoch + 1 RETURNING c.src_partition, c.epoch`, partitions)
		if err != nil {
			return err
		}
		index := map[int32]int{}
		var c claim
		if _, err := pgx.ForEachRow(rows, []any{&c.Partition, &c.Epoch}, func() error {
			index[c.Partition] = len(taken)
			taken = append(taken, takenPartition{claim: c, Blocked: map[string][]deviceHash{}})
			return nil
		}); err != nil {
			return err
		}
		// Ordered, so that one destination's id is kept once and not with each of a million devices.
		rows, err = tx.Query(ctx, `SELECT src_partition, destination_id, device_hash FROM activation.parked_device
			WHERE src_partition = ANY ($1) ORDER BY src_partition, destination_id`, partitions)
		if err != nil {
			return err
		}
		var partition int32
		var id, last uuid.UUID
		var name string
		var hash []byte
		_, err = pgx.ForEachRow(rows, []any{&partition, &id, &hash}, func() error {
			if name == "" || id != last {
				name, last = id.String(), id
			}
			blocked := taken[index[partition]].Blocked
			blocked[name] = append(blocked[name], deviceHash(hash))
			return nil
		})
		return err
	})
	return taken, err
}

// checkClaim is the first statement of every change: it fails one whose partition was taken over and holds off those
// that would.
const checkClaim = "SELECT 1 FROM activation.partition_claim WHERE src_partition = $1 AND epoch = $2 FOR SHARE"

// underClaim sends the statements of a change in one round trip.
func (s *postgresStore) underClaim(ctx context.Context, c claim, queue func(b *pgx.Batch)) error {
	return s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(checkClaim, c.Partition, c.Epoch).QueryRow(func(row pgx.Row) error {
			var one int
			err := row.Scan(&one)
			if errors.Is(err, pgx.ErrNoRows) {
				return errPartitionTaken()
			}
			return err
		})
		queue(b)
		return tx.SendBatch(ctx, b).Close()
	})
}

// Park implements ParkedStore.
func (s *postgresStore) Park(ctx context.Context, c claim, p parking) error {
	return s.underClaim(ctx, c, func(b *pgx.Batch) {
		queueParked(b, c, p)
		queueDead(b, p.WorkspaceID, p.DestinationID, p.At, p.Dead)
	})
}

func queueParked(b *pgx.Batch, c claim, p parking) {
	n := len(p.Messages)
	if n == 0 {
		return
	}
	ids, devices, values := make([]string, n), make([][]byte, n), make([][]byte, n)
	attempts, next := make([]int32, n), make([]time.Time, n)
	for i, m := range p.Messages {
		ids[i], devices[i], values[i] = m.MessageID, m.Device[:], m.Value
		attempts[i], next[i] = int32(m.Attempts), m.NextAttemptAt //nolint:gosec // attempts are few
	}
	// WITH ORDINALITY keeps the order of the log in seq. The first message of a device decides when it is tried.
	b.Queue(`INSERT INTO activation.parked_message (workspace_id, destination_id, device_hash, message_id, value, attempts, parked_at)
		SELECT $1, $2, h, m, v, a, $3 FROM unnest($4::bytea[], $5::uuid[], $6::bytea[], $7::int[]) WITH ORDINALITY AS t (h, m, v, a, n)
		WHERE NOT EXISTS (SELECT FROM activation.dead_message x WHERE x.destination_id = $2 AND x.message_id = m) ORDER BY n
		ON CONFLICT (destination_id, message_id) DO NOTHING`, p.WorkspaceID, p.DestinationID, p.At, devices, ids, values, attempts)
	b.Queue(`INSERT INTO activation.parked_device (workspace_id, destination_id, device_hash, src_partition, attempts, next_attempt_at)
		SELECT DISTINCT ON (h) $1, $2, h, $3, a, t FROM unnest($4::bytea[], $5::int[], $6::timestamptz[]) WITH ORDINALITY AS t (h, a, t, n)
		ORDER BY h, n ON CONFLICT (destination_id, device_hash) DO NOTHING`,
		p.WorkspaceID, p.DestinationID, c.Partition, devices, attempts, next)
}

func queueDead(b *pgx.Batch, workspaceID, destinationID string, at time.Time, dead []deadMessage) {
	n := len(dead)
	if n == 0 {
		return
	}
	ids, values, reasons := make([]string, n), make([][]byte, n), make([]string, n)
	attempts, codes := make([]int32, n), make([]int32, n)
	for i, m := range dead {
		ids[i], values[i], reasons[i] = m.MessageID, m.Value, m.Reason
		attempts[i], codes[i] = int32(m.Attempts), int32(m.Code) //nolint:gosec // both are small
	}
	// A destination that was deleted meanwhile keeps nothing.
	b.Queue(`INSERT INTO activation.dead_message (workspace_id, destination_id, message_id, value, attempts, reason, code, died_at)
		SELECT $1, $2, m, v, a, r, c, $3 FROM unnest($4::uuid[], $5::bytea[], $6::int[], $7::text[], $8::int[]) AS t (m, v, a, r, c)
		WHERE EXISTS (SELECT FROM activation.destination x WHERE x.destination_id = $2)
		ON CONFLICT (destination_id, message_id) DO NOTHING`, workspaceID, destinationID, at, ids, values, attempts, reasons, codes)
}

// Load implements ParkedStore.
func (s *postgresStore) Load(ctx context.Context, c claim, destinationID string, now time.Time, limit loadLimit) (due load, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		due = load{}
		b := &pgx.Batch{}
		b.Queue(`SELECT device_hash, attempts FROM activation.parked_device
			WHERE destination_id = $1 AND src_partition = $2 AND next_attempt_at <= $3 ORDER BY next_attempt_at LIMIT $4`,
			destinationID, c.Partition, now, limit.Devices).Query(func(rows pgx.Rows) (err error) {
			due.Devices, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d dueDevice, err error) {
				var hash []byte
				err = row.Scan(&hash, &d.Attempts)
				copy(d.Device[:], hash)
				return d, err
			})
			return err
		})
		b.Queue(`SELECT min(next_attempt_at) FROM activation.parked_device
			WHERE destination_id = $1 AND src_partition = $2 AND next_attempt_at > $3`, destinationID, c.Partition, now).QueryRow(func(row pgx.Row) error {
			var at *time.Time
			err := row.Scan(&at)
			if at != nil {
				due.Next = at.UTC()
			}
			return err
		})
		if err := tx.SendBatch(ctx, b).Close(); err != nil || len(due.Devices) == 0 {
			return err
		}
		due.Messages, err = loadMessagesOf(ctx, tx, destinationID, due.Devices, limit)
		return err
	}, postgres.ReadOnly)
	return due, err
}

func loadMessagesOf(ctx context.Context, tx pgx.Tx, destinationID string, devices []dueDevice, limit loadLimit) ([]parkedMessage, error) {
	hashes := make([][]byte, len(devices))
	for i, d := range devices {
		hashes[i] = d.Device[:]
	}
	rows, err := tx.Query(ctx, `SELECT seq, message_id, device_hash, value, attempts, parked_at FROM (
			SELECT m.*, sum(octet_length(m.value)) OVER (ORDER BY m.seq) AS bytes, row_number() OVER (ORDER BY m.seq) AS n
			FROM unnest($2::bytea[]) AS d (hash) CROSS JOIN LATERAL (
				SELECT * FROM activation.parked_message p WHERE p.destination_id = $1 AND p.device_hash = d.hash ORDER BY p.seq LIMIT $3
			) m
		) AS oldest WHERE n = 1 OR n <= $4 AND bytes <= $5 ORDER BY seq`,
		destinationID, hashes, limit.perDevice(len(devices)), limit.Messages, limit.Bytes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m parkedMessage, err error) {
		var hash []byte
		err = row.Scan(&m.Seq, &m.MessageID, &hash, &m.Value, &m.Attempts, &m.ParkedAt)
		copy(m.Device[:], hash)
		m.ParkedAt = m.ParkedAt.UTC()
		return m, err
	})
}

// Settle implements ParkedStore.
func (s *postgresStore) Settle(ctx context.Context, c claim, set settlement) (free []deviceHash, err error) {
	err = s.underClaim(ctx, c, func(b *pgx.Batch) {
		free = nil
		queueDead(b, set.WorkspaceID, set.DestinationID, set.At, set.Dead)
		queueSettled(b, set)
		hashes := make([][]byte, len(set.Taken))
		for i, d := range set.Taken {
			hashes[i] = d[:]
		}
		b.Queue(`DELETE FROM activation.parked_device d WHERE d.destination_id = $1 AND d.device_hash = ANY ($2)
			AND NOT EXISTS (SELECT FROM activation.parked_message m WHERE m.destination_id = $1 AND m.device_hash = d.device_hash)
			RETURNING d.device_hash`, set.DestinationID, hashes).Query(func(rows pgx.Rows) error {
			raw, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
			for _, hash := range raw {
				free = append(free, deviceHash(hash))
			}
			return err
		})
	})
	return free, err
}

func queueSettled(b *pgx.Batch, set settlement) {
	gone := append([]string{}, set.Delivered...)
	for _, m := range set.Dead {
		gone = append(gone, m.MessageID)
	}
	if len(gone) > 0 {
		b.Queue("DELETE FROM activation.parked_message WHERE destination_id = $1 AND message_id = ANY ($2::uuid[])", set.DestinationID, gone)
	}
	if len(set.Failed) > 0 {
		b.Queue("UPDATE activation.parked_message SET attempts = attempts + 1 WHERE destination_id = $1 AND message_id = ANY ($2::uuid[])",
			set.DestinationID, set.Failed)
	}
	if len(set.Again) == 0 {
		return
	}
	n := len(set.Again)
	devices, attempts, next := make([][]byte, n), make([]int32, n), make([]time.Time, n)
	for i, d := range set.Again {
		devices[i], attempts[i], next[i] = d.Device[:], int32(d.Attempts), d.NextAttemptAt //nolint:gosec // attempts are few
	}
	b.Queue(`UPDATE activation.parked_device d SET attempts = f.a, next_attempt_at = f.t
		FROM unnest($2::bytea[], $3::int[], $4::timestamptz[]) AS f (h, a, t)
		WHERE d.destination_id = $1 AND d.device_hash = f.h
		AND EXISTS (SELECT FROM activation.parked_message m WHERE m.destination_id = $1 AND m.device_hash = f.h)`,
		set.DestinationID, devices, attempts, next)
}

// hastenRows bounds one transaction of Hasten.
const hastenRows = 5_000

// Hasten implements ParkedStore.
func (s *postgresStore) Hasten(ctx context.Context, c claim, destinationID string, now time.Time) error {
	for {
		var n int64
		err := s.underClaim(ctx, c, func(b *pgx.Batch) {
			b.Queue(`UPDATE activation.parked_device SET next_attempt_at = $3
				WHERE destination_id = $1 AND device_hash IN (
					SELECT device_hash FROM activation.parked_device
					WHERE destination_id = $1 AND src_partition = $2 AND next_attempt_at > $3 LIMIT $4)`,
				destinationID, c.Partition, now, hastenRows).Exec(func(tag pgconn.CommandTag) error {
				n = tag.RowsAffected()
				return nil
			})
		})
		if err != nil || n < hastenRows {
			return err
		}
	}
}

// Purge implements ParkedStore.
func (s *postgresStore) Purge(ctx context.Context, destinationID string) error {
	return s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, table := range []string{"parked_message", "parked_device", "dead_message"} {
			if _, err := tx.Exec(ctx, "DELETE FROM activation."+table+` WHERE destination_id = $1
				AND NOT EXISTS (SELECT FROM activation.destination d WHERE d.destination_id = $1)`, destinationID); err != nil {
				return err
			}
		}
		return nil
	})
}
