package identity

import (
	"context"
	"embed"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
)

//go:embed migrations/postgres/*.sql
var migrations embed.FS

// schema is the context's schema in the database.
const schema = "identity"

// Migrations are the tables of this context.
func Migrations() postgres.Set {
	return postgres.Set{Name: schema, FS: migrations, Dir: "migrations/postgres"}
}

// conflictAttempts bounds the tries of a transaction that lost to another one.
const conflictAttempts = 5

// PostgresStore is the Store that counts.
type PostgresStore struct {
	db    *postgres.DB
	clock clock.Clock
	// message makes the outbox row of a change.
	message func(Change) (outbox.Row, error)
}

// NewPostgresStore returns a Store on the tables of Migrations.
func NewPostgresStore(db *postgres.DB, clk clock.Clock, message func(Change) (outbox.Row, error)) *PostgresStore {
	return &PostgresStore{db: db, clock: clk, message: message}
}

// identifierRow is an identifier in the order of locking.
type identifierRow struct {
	workspaceID string
	Identifier
}

// Lookup implements Store.
func (s *PostgresStore) Lookup(ctx context.Context, events []Event) (map[ids.Hash]Profile, error) {
	rows, workspaces := identifierRows(events)
	known := make(map[ids.Hash]Profile, len(rows))
	err := s.db.InWorkspaces(ctx, workspaces, func(ctx context.Context, tx pgx.Tx) error {
		w, h := keysOf(rows)
		found, err := tx.Query(ctx, `
			SELECT k.hash, i.profile_id::text, p.profile_no, p.version
			FROM unnest($1::uuid[], $2::bytea[]) AS k (workspace_id, hash)
			CROSS JOIN LATERAL (
				SELECT profile_id FROM identity.identifiers
				WHERE workspace_id = k.workspace_id AND hash = k.hash
				OFFSET 0
			) AS i
			CROSS JOIN LATERAL (
				SELECT profile_no, version FROM identity.profiles
				WHERE workspace_id = k.workspace_id AND id = i.profile_id
				OFFSET 0
			) AS p`, w, h)
		if err != nil {
			return err
		}
		var hash []byte
		var p Profile
		_, err = pgx.ForEachRow(found, []any{&hash, &p.ID, &p.No, &p.Version}, func() error {
			known[ids.Hash(hash)] = p
			return nil
		})
		return err
	}, postgres.ReadOnly)
	return known, err
}

// Assign implements Store.
func (s *PostgresStore) Assign(ctx context.Context, partition int32, events []Event) (Assigned, error) {
	rows, workspaces := identifierRows(events)
	var out Assigned
	err := postgres.Retry(ctx, conflictAttempts, func(ctx context.Context) error {
		return s.db.InWorkspaces(ctx, workspaces, func(ctx context.Context, tx pgx.Tx) error {
			t := &assignTx{tx: tx, partition: partition, events: events, rows: rows}
			if err := t.lock(ctx); err != nil {
				return err
			}
			a, earlier, err := t.decide(ctx)
			if err != nil {
				return err
			}
			if err := t.write(ctx, a); err != nil {
				return err
			}
			if err := s.announce(ctx, tx, a); err != nil {
				return err
			}
			out = Assigned{Decisions: a.decisions(), Known: a.known()}
			for offset, d := range earlier {
				out.Decisions[offset] = d
			}
			return nil
		})
	})
	return out, err
}

// announce puts the changes into the outbox. The profiles' rows are locked, so the order of rows within a profile is the
// order of its versions.
func (s *PostgresStore) announce(ctx context.Context, tx pgx.Tx, a *assignment) error {
	changes := a.changesAt(s.clock.Now())
	messages := make([]outbox.Row, len(changes))
	for i, c := range changes {
		var err error
		if messages[i], err = s.message(c); err != nil {
			return err
		}
	}
	return outbox.Table{Schema: schema}.Append(ctx, tx, messages...)
}

// Decisions implements Store.
func (s *PostgresStore) Decisions(ctx context.Context, partition int32, from int64) (map[int64]Decision, error) {
	out := map[int64]Decision{}
	err := s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		out, err = scanDecisions(tx.Query(ctx, selectDecisions+`src_partition = $1 AND src_offset >= $2`, partition, from))
		return err
	}, postgres.ReadOnly)
	return out, err
}

// PruneDecisions implements Store.
func (s *PostgresStore) PruneDecisions(ctx context.Context, partition int32, below int64) (int64, error) {
	n := int64(0)
	err := s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM identity.decisions WHERE src_partition = $1 AND src_offset < $2`, partition, below)
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

const selectDecisions = `SELECT src_offset, event_hash, profile_id::text, profile_no, profile_version FROM identity.decisions WHERE `

func scanDecisions(rows pgx.Rows, err error) (map[int64]Decision, error) {
	if err != nil {
		return nil, err
	}
	out := map[int64]Decision{}
	var offset int64
	var hash []byte
	var p Profile
	_, err = pgx.ForEachRow(rows, []any{&offset, &hash, &p.ID, &p.No, &p.Version}, func() error {
		if len(hash) != len(ids.Hash{}) {
			return errs.New(errs.Internal, "decision_damaged", "a decision in the database has a hash of another length")
		}
		out[offset] = Decision{Profile: p, EventHash: ids.Hash(hash)}
		return nil
	})
	return out, err
}

// identifierRows returns the distinct identifiers of events in the order in which every transaction locks them, and
// their workspaces.
func identifierRows(events []Event) ([]identifierRow, []string) {
	var rows []identifierRow
	var workspaces []string
	for i := range events {
		workspaces = append(workspaces, events[i].WorkspaceID)
		for _, id := range events[i].Identifiers {
			rows = append(rows, identifierRow{workspaceID: events[i].WorkspaceID, Identifier: id})
		}
	}
	compare := func(a, b identifierRow) int {
		if c := strings.Compare(string(a.Hash[:]), string(b.Hash[:])); c != 0 {
			return c
		}
		return strings.Compare(a.workspaceID, b.workspaceID)
	}
	slices.SortFunc(rows, compare)
	rows = slices.CompactFunc(rows, func(a, b identifierRow) bool { return compare(a, b) == 0 })
	slices.Sort(workspaces)
	return rows, slices.Compact(workspaces)
}

func keysOf(rows []identifierRow) (workspaces []string, hashes [][]byte) {
	for i := range rows {
		workspaces, hashes = append(workspaces, rows[i].workspaceID), append(hashes, rows[i].Hash[:])
	}
	return workspaces, hashes
}
