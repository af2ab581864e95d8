package activation

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

//go:embed migrations/postgres/*.sql
var migrations embed.FS

// Migrations returns the schema of this context.
func Migrations() postgres.Set {
	return postgres.Set{Name: "activation", FS: migrations, Dir: "migrations/postgres"}
}

// postgresStore keeps definitions and parked messages.
type postgresStore struct{ db *postgres.DB }

// newPostgresStore returns a store on a migrated database.
func newPostgresStore(db *postgres.DB) *postgresStore { return &postgresStore{db: db} }

const selectDestination = `SELECT workspace_id, destination_id, name, enabled, filter, settings, signing_secret, revision, created_at, updated_at
	FROM activation.destination `

func scanDestination(row pgx.CollectableRow) (Destination, error) {
	var d Destination
	var settings []byte
	err := row.Scan(&d.WorkspaceID, &d.ID, &d.Name, &d.Enabled, &d.Filter, &settings, &d.SigningSecret, &d.Revision, &d.CreatedAt, &d.UpdatedAt)
	if err != nil {
		return Destination{}, err
	}
	d.CreatedAt, d.UpdatedAt = d.CreatedAt.UTC(), d.UpdatedAt.UTC()
	return d, json.Unmarshal(settings, &d.Webhook)
}

// Insert implements DestinationStore.
func (s *postgresStore) Insert(ctx context.Context, d Destination) error {
	settings, err := json.Marshal(d.Webhook)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return s.db.InWorkspace(ctx, d.WorkspaceID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO activation.destination
			(workspace_id, destination_id, name, enabled, filter, kind, settings, signing_secret, revision, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, 'webhook', $6, $7, $8, $9, $10)`,
			d.WorkspaceID, d.ID, d.Name, d.Enabled, d.Filter, settings, d.SigningSecret, d.Revision, d.CreatedAt, d.UpdatedAt)
		return nameTaken(err)
	})
}

func nameTaken(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.ConstraintName == "destination_name_key" {
		return errNameTaken()
	}
	return err
}

// Get implements DestinationStore.
func (s *postgresStore) Get(ctx context.Context, workspaceID, id string) (d Destination, err error) {
	if !ids.Valid(id) {
		return Destination{}, errDestinationNotFound()
	}
	err = s.db.InWorkspace(ctx, workspaceID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectDestination+"WHERE workspace_id = $1 AND destination_id = $2", workspaceID, id)
		if err != nil {
			return err
		}
		d, err = pgx.CollectExactlyOneRow(rows, scanDestination)
		if errors.Is(err, pgx.ErrNoRows) {
			return errDestinationNotFound()
		}
		return err
	}, postgres.ReadOnly)
	return d, err
}

// List implements DestinationStore.
func (s *postgresStore) List(ctx context.Context, workspaceID string, limit int) (list []Destination, err error) {
	err = s.db.InWorkspace(ctx, workspaceID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectDestination+`WHERE workspace_id = $1 ORDER BY name COLLATE "C" LIMIT $2`, workspaceID, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanDestination)
		return err
	}, postgres.ReadOnly)
	return list, err
}

// Update implements DestinationStore.
func (s *postgresStore) Update(ctx context.Context, d Destination) error {
	settings, err := json.Marshal(d.Webhook)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return s.db.InWorkspace(ctx, d.WorkspaceID, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE activation.destination
			SET name = $4, enabled = $5, filter = $6, settings = $7, revision = $3, updated_at = $8, change_no = nextval('activation.change_no')
			WHERE workspace_id = $1 AND destination_id = $2 AND revision = $3 - 1`,
			d.WorkspaceID, d.ID, d.Revision, d.Name, d.Enabled, d.Filter, settings, d.UpdatedAt)
		if err == nil && tag.RowsAffected() == 0 {
			return errRevision()
		}
		return nameTaken(err)
	})
}

// Delete implements DestinationStore.
func (s *postgresStore) Delete(ctx context.Context, workspaceID, id string) error {
	if !ids.Valid(id) {
		return errDestinationNotFound()
	}
	return s.db.InWorkspace(ctx, workspaceID, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "DELETE FROM activation.destination WHERE workspace_id = $1 AND destination_id = $2", workspaceID, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errDestinationNotFound()
		}
		for _, table := range []string{"parked_message", "parked_device", "dead_message"} {
			if _, err := tx.Exec(ctx, "DELETE FROM activation."+table+" WHERE workspace_id = $1 AND destination_id = $2", workspaceID, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Queue implements DestinationStore.
func (s *postgresStore) Queue(ctx context.Context, workspaceID, id string) (q Queue, err error) {
	err = s.db.InWorkspace(ctx, workspaceID, func(ctx context.Context, tx pgx.Tx) error {
		var oldest *time.Time
		err := tx.QueryRow(ctx, `SELECT
			(SELECT count(*) FROM activation.parked_message WHERE destination_id = $1),
			(SELECT count(*) FROM activation.dead_message WHERE destination_id = $1),
			(SELECT min(parked_at) FROM activation.parked_message WHERE destination_id = $1)`, id).Scan(&q.Parked, &q.Dead, &oldest)
		if oldest != nil {
			q.OldestParkedAt = oldest.UTC()
		}
		return err
	}, postgres.ReadOnly)
	return q, err
}

// Fingerprint implements DestinationReader.
func (s *postgresStore) Fingerprint(ctx context.Context) (f Fingerprint, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return readFingerprint(ctx, tx, &f)
	}, postgres.ReadOnly)
	return f, err
}

func readFingerprint(ctx context.Context, tx pgx.Tx, f *Fingerprint) error {
	return tx.QueryRow(ctx, "SELECT count(*), coalesce(sum(change_no), 0)::bigint FROM activation.destination").Scan(&f.Count, &f.Sum)
}

// AllDestinations implements DestinationReader.
func (s *postgresStore) AllDestinations(ctx context.Context) (all []Destination, f Fingerprint, err error) {
	err = s.db.AsSystem(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := readFingerprint(ctx, tx, &f); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, selectDestination)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, scanDestination)
		return err
	}, postgres.RepeatableRead, postgres.ReadOnly)
	return all, f, err
}
