package activation

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

// Park implements ParkedStore.
func (s *PostgresStore) Park(ctx context.Context, messages []parking, dead []parkedDead) error {
	if len(messages) == 0 && len(dead) == 0 {
		return nil
	}
	return s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := insertParked(ctx, tx, messages); err != nil {
			return err
		}
		rows := make([]deadMessage, len(dead))
		destinations := make([]string, len(dead))
		for i, d := range dead {
			rows[i] = deadMessage{
				parkedMessage: parkedMessage{WorkspaceID: d.WorkspaceID, MessageID: d.MessageID, Value: d.Value, Attempts: 1},
				Reason:        d.Reason, Code: d.Code,
			}
			destinations[i] = d.DestinationID
		}
		return insertDead(ctx, tx, rows, destinations)
	})
}

func insertParked(ctx context.Context, tx pgx.Tx, messages []parking) error {
	n := len(messages)
	if n == 0 {
		return nil
	}
	workspaces, destinations, messageIDs := make([]string, n), make([]string, n), make([]string, n)
	devices, values := make([][]byte, n), make([][]byte, n)
	partitions, attempts := make([]int32, n), make([]int32, n)
	next := make([]time.Time, n)
	for i, m := range messages {
		workspaces[i], destinations[i], messageIDs[i] = m.WorkspaceID, m.DestinationID, m.MessageID
		devices[i], values[i], partitions[i] = m.Device[:], m.Value, m.Partition
		attempts[i], next[i] = int32(m.Attempts), m.NextAttemptAt //nolint:gosec // attempts are few
	}
	// WITH ORDINALITY keeps the order of the log in seq. The first message of a device decides when it is tried.
	_, err := tx.Exec(ctx, `INSERT INTO activation.parked_message (workspace_id, destination_id, device_hash, message_id, value, attempts, parked_at)
		SELECT w, d, h, m, v, a, now() FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::bytea[], $6::int[])
		WITH ORDINALITY AS t (w, d, h, m, v, a, n) ORDER BY n
		ON CONFLICT (destination_id, message_id) DO NOTHING`, workspaces, destinations, devices, messageIDs, values, attempts)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO activation.parked_device (workspace_id, destination_id, device_hash, src_partition, attempts, next_attempt_at)
		SELECT DISTINCT ON (d, h) w, d, h, p, a, t FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::int[], $5::int[], $6::timestamptz[])
		WITH ORDINALITY AS t (w, d, h, p, a, t, n) ORDER BY d, h, n
		ON CONFLICT (destination_id, device_hash) DO NOTHING`, workspaces, destinations, devices, partitions, attempts, next)
	return err
}

func insertDead(ctx context.Context, tx pgx.Tx, dead []deadMessage, destinations []string) error {
	n := len(dead)
	if n == 0 {
		return nil
	}
	workspaces, messageIDs, reasons := make([]string, n), make([]string, n), make([]string, n)
	values := make([][]byte, n)
	attempts, codes := make([]int32, n), make([]int32, n)
	for i, m := range dead {
		workspaces[i], messageIDs[i], reasons[i], values[i] = m.WorkspaceID, m.MessageID, m.Reason, m.Value
		attempts[i], codes[i] = int32(m.Attempts), int32(m.Code) //nolint:gosec // both are small
	}
	_, err := tx.Exec(ctx, `INSERT INTO activation.dead_message (workspace_id, destination_id, message_id, value, attempts, reason, code, died_at)
		SELECT w, d, m, v, a, r, c, now() FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bytea[], $5::int[], $6::text[], $7::int[]) AS t (w, d, m, v, a, r, c)
		ON CONFLICT (destination_id, message_id) DO NOTHING`, workspaces, destinations, messageIDs, values, attempts, reasons, codes)
	return err
}

const selectDevice = "SELECT workspace_id, destination_id, device_hash, src_partition, attempts FROM activation.parked_device "

func scanDue(row pgx.CollectableRow) (dueDevice, error) {
	var d dueDevice
	var hash []byte
	err := row.Scan(&d.WorkspaceID, &d.DestinationID, &hash, &d.Partition, &d.Attempts)
	copy(d.Device[:], hash)
	return d, err
}

// Devices implements ParkedStore.
func (s *PostgresStore) Devices(ctx context.Context, partitions []int32) (devices []dueDevice, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectDevice+"WHERE src_partition = ANY ($1)", partitions)
		if err != nil {
			return err
		}
		devices, err = pgx.CollectRows(rows, scanDue)
		return err
	}, postgres.ReadOnly)
	return devices, err
}

// Due implements ParkedStore.
func (s *PostgresStore) Due(
	ctx context.Context, destinationID string, partition int32, now time.Time, limit int,
) (devices []dueDevice, next time.Time, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectDevice+
			"WHERE destination_id = $1 AND src_partition = $2 AND next_attempt_at <= $3 ORDER BY next_attempt_at LIMIT $4",
			destinationID, partition, now, limit)
		if err != nil {
			return err
		}
		if devices, err = pgx.CollectRows(rows, scanDue); err != nil {
			return err
		}
		var at *time.Time
		err = tx.QueryRow(ctx, "SELECT min(next_attempt_at) FROM activation.parked_device WHERE destination_id = $1 AND src_partition = $2 AND next_attempt_at > $3",
			destinationID, partition, now).Scan(&at)
		if at != nil {
			next = at.UTC()
		}
		return err
	}, postgres.ReadOnly)
	return devices, next, err
}

// Messages implements ParkedStore.
func (s *PostgresStore) Messages(ctx context.Context, destinationID string, devices []deviceHash, perDevice int) (messages []parkedMessage, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT m.seq, m.workspace_id, m.message_id, m.device_hash, m.value, m.attempts, m.parked_at
			FROM unnest($2::bytea[]) AS d (hash) CROSS JOIN LATERAL (
				SELECT * FROM activation.parked_message p WHERE p.destination_id = $1 AND p.device_hash = d.hash ORDER BY p.seq LIMIT $3
			) m ORDER BY m.seq`, destinationID, hashes(devices), perDevice)
		if err != nil {
			return err
		}
		messages, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (parkedMessage, error) {
			var m parkedMessage
			var hash []byte
			err := row.Scan(&m.Seq, &m.WorkspaceID, &m.MessageID, &hash, &m.Value, &m.Attempts, &m.ParkedAt)
			copy(m.Device[:], hash)
			m.ParkedAt = m.ParkedAt.UTC()
			return m, err
		})
		return err
	}, postgres.ReadOnly)
	return messages, err
}

func hashes(devices []deviceHash) [][]byte {
	list := make([][]byte, len(devices))
	for i, d := range devices {
		list[i] = d[:]
	}
	return list
}

// Settle implements ParkedStore.
func (s *PostgresStore) Settle(ctx context.Context, set settlement, now time.Time) (free []deviceHash, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		free = nil
		if err := settleMessages(ctx, tx, set); err != nil {
			return err
		}
		if err := settleFailed(ctx, tx, set); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `DELETE FROM activation.parked_device d WHERE d.destination_id = $1 AND d.device_hash = ANY ($2)
			AND NOT EXISTS (SELECT FROM activation.parked_message m WHERE m.destination_id = d.destination_id AND m.device_hash = d.device_hash)
			RETURNING d.device_hash`, set.DestinationID, hashes(set.Tried))
		if err != nil {
			return err
		}
		raw, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		for _, hash := range raw {
			free = append(free, deviceHash(hash))
		}
		if err != nil {
			return err
		}
		// Devices that were delivered in part go on at once, without the attempts of the past.
		_, err = tx.Exec(ctx, `UPDATE activation.parked_device SET attempts = 0, next_attempt_at = $3
			WHERE destination_id = $1 AND device_hash = ANY ($2)`, set.DestinationID, hashes(set.unfailed()), now)
		return err
	})
	return free, err
}

// unfailed are the devices of which something was sent and nothing failed.
func (s settlement) unfailed() []deviceHash {
	failed := make(map[deviceHash]bool, len(s.Failed))
	for _, f := range s.Failed {
		failed[f.Device] = true
	}
	var rest []deviceHash
	for _, d := range s.Tried {
		if !failed[d] {
			rest = append(rest, d)
		}
	}
	return rest
}

func settleMessages(ctx context.Context, tx pgx.Tx, set settlement) error {
	gone := make([]string, 0, len(set.Delivered)+len(set.Dead))
	for _, m := range set.Delivered {
		gone = append(gone, m.MessageID)
	}
	destinations := make([]string, len(set.Dead))
	for i, m := range set.Dead {
		gone = append(gone, m.MessageID)
		destinations[i] = set.DestinationID
	}
	if err := insertDead(ctx, tx, set.Dead, destinations); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM activation.parked_message WHERE destination_id = $1 AND message_id = ANY ($2)", set.DestinationID, gone)
	return err
}

func settleFailed(ctx context.Context, tx pgx.Tx, set settlement) error {
	n := len(set.Failed)
	if n == 0 {
		return nil
	}
	devices, seqs, next := make([][]byte, n), make([]int64, n), make([]time.Time, n)
	for i, f := range set.Failed {
		devices[i], seqs[i], next[i] = f.Device[:], f.Seq, f.NextAttemptAt
	}
	_, err := tx.Exec(ctx, `UPDATE activation.parked_device d SET attempts = d.attempts + (f.seq > 0)::int, next_attempt_at = f.next
		FROM unnest($2::bytea[], $3::bigint[], $4::timestamptz[]) AS f (hash, seq, next)
		WHERE d.destination_id = $1 AND d.device_hash = f.hash`, set.DestinationID, devices, seqs, next)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE activation.parked_message m SET attempts = m.attempts + 1
		FROM unnest($2::bytea[], $3::bigint[]) AS f (hash, seq)
		WHERE m.destination_id = $1 AND m.device_hash = f.hash AND m.seq = f.seq`, set.DestinationID, devices, seqs)
	return err
}

// Hasten implements ParkedStore.
func (s *PostgresStore) Hasten(ctx context.Context, destinationID string, now time.Time) error {
	return s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE activation.parked_device SET next_attempt_at = $2 WHERE destination_id = $1 AND next_attempt_at > $2", destinationID, now)
		return err
	})
}
