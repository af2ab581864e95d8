package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

type pgSources struct{ tx pgx.Tx }

const selectSource = `
	SELECT workspace_id, source_id, name, type, enabled, origins, revision, created_at, deleted_at FROM admin.source `

func scanSource(row pgx.CollectableRow) (Source, error) {
	var s Source
	var deleted *time.Time
	err := row.Scan(&s.WorkspaceID, &s.ID, &s.Name, &s.Type, &s.Enabled, &s.Origins, &s.Revision, &s.CreatedAt, &deleted)
	s.CreatedAt, s.DeletedAt = s.CreatedAt.UTC(), utc(deleted)
	return s, err
}

func (s pgSources) Insert(ctx context.Context, source Source) error {
	_, err := s.tx.Exec(ctx, `
		INSERT INTO admin.source (workspace_id, source_id, name, type, enabled, origins, revision, created_at, deleted_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		source.WorkspaceID, source.ID, source.Name, source.Type, source.Enabled, source.Origins, source.Revision,
		source.CreatedAt, nullTime(source.DeletedAt))
	return taken(err, "source_name_key", errSourceNameTaken())
}

func (s pgSources) Update(ctx context.Context, source Source) error {
	err := update(ctx, s.tx, errSourceNotFound(), `
		UPDATE admin.source SET name = $3, enabled = $4, origins = $5, revision = $6, deleted_at = $7
		WHERE workspace_id = $1 AND source_id = $2`,
		source.WorkspaceID, source.ID, source.Name, source.Enabled, source.Origins, source.Revision, nullTime(source.DeletedAt))
	return taken(err, "source_name_key", errSourceNameTaken())
}

func (s pgSources) Get(ctx context.Context, workspaceID, sourceID string) (Source, error) {
	if !ids.Valid(sourceID) {
		return Source{}, errSourceNotFound()
	}
	return one(ctx, s.tx, scanSource, errSourceNotFound(),
		selectSource+"WHERE workspace_id = $1 AND source_id = $2 AND deleted_at IS NULL", workspaceID, sourceID)
}

func (s pgSources) List(ctx context.Context, workspaceID string, limit int) ([]Source, error) {
	return many(ctx, s.tx, scanSource,
		selectSource+`WHERE workspace_id = $1 AND deleted_at IS NULL ORDER BY name COLLATE "C" LIMIT $2`, workspaceID, limit)
}

type pgKeys struct{ tx pgx.Tx }

const selectKey = `SELECT workspace_id, source_id, write_key, revision, created_at, expires_at, revoked_at FROM admin.write_key `

func scanKey(row pgx.CollectableRow) (WriteKey, error) {
	var k WriteKey
	var expires, revoked *time.Time
	err := row.Scan(&k.WorkspaceID, &k.SourceID, &k.Key, &k.Revision, &k.CreatedAt, &expires, &revoked)
	k.CreatedAt, k.ExpiresAt, k.RevokedAt = k.CreatedAt.UTC(), utc(expires), utc(revoked)
	return k, err
}

func (s pgKeys) Insert(ctx context.Context, k WriteKey) error {
	_, err := s.tx.Exec(ctx, `
		INSERT INTO admin.write_key (workspace_id, source_id, write_key, revision, created_at, expires_at, revoked_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		k.WorkspaceID, k.SourceID, k.Key, k.Revision, k.CreatedAt, nullTime(k.ExpiresAt), nullTime(k.RevokedAt))
	return err
}

func (s pgKeys) Update(ctx context.Context, k WriteKey) error {
	return update(ctx, s.tx, errWriteKeyNotFound(), `
		UPDATE admin.write_key SET revision = $4, expires_at = $5, revoked_at = $6
		WHERE workspace_id = $1 AND source_id = $2 AND write_key = $3`,
		k.WorkspaceID, k.SourceID, k.Key, k.Revision, nullTime(k.ExpiresAt), nullTime(k.RevokedAt))
}

func (s pgKeys) List(ctx context.Context, workspaceID, sourceID string, now time.Time) ([]WriteKey, error) {
	return many(ctx, s.tx, scanKey, selectKey+`
		WHERE workspace_id = $1 AND ($2::uuid IS NULL OR source_id = $2) AND revoked_at IS NULL
		  AND (expires_at IS NULL OR expires_at > $3)
		ORDER BY created_at, write_key COLLATE "C"`, workspaceID, nullText(sourceID), now)
}

func (s pgKeys) Resolve(ctx context.Context, key string) (WriteKey, Source, error) {
	type found struct {
		key    WriteKey
		source Source
	}
	row, err := one(ctx, s.tx, func(row pgx.CollectableRow) (found, error) {
		var f found
		var expires, revoked, deleted *time.Time
		k, source := &f.key, &f.source
		err := row.Scan(&k.WorkspaceID, &k.SourceID, &k.Key, &k.Revision, &k.CreatedAt, &expires, &revoked,
			&source.WorkspaceID, &source.ID, &source.Name, &source.Type, &source.Enabled, &source.Origins, &source.Revision,
			&source.CreatedAt, &deleted)
		k.CreatedAt, k.ExpiresAt, k.RevokedAt = k.CreatedAt.UTC(), utc(expires), utc(revoked)
		source.CreatedAt, source.DeletedAt = source.CreatedAt.UTC(), utc(deleted)
		return f, err
	}, errWriteKeyNotFound(), `
		SELECT k.workspace_id, k.source_id, k.write_key, k.revision, k.created_at, k.expires_at, k.revoked_at,
		       s.workspace_id, s.source_id, s.name, s.type, s.enabled, s.origins, s.revision, s.created_at, s.deleted_at
		FROM admin.write_key k JOIN admin.source s USING (workspace_id, source_id)
		WHERE k.write_key = $1`, key)
	return row.key, row.source, err
}

type pgSnapshot struct{ tx pgx.Tx }

func (s pgSnapshot) Read(ctx context.Context) ([]Change, error) {
	workspaces, err := many(ctx, s.tx, scanWorkspace, selectWorkspace+"ORDER BY workspace_id")
	if err != nil {
		return nil, err
	}
	sources, err := many(ctx, s.tx, scanSource, selectSource+"ORDER BY source_id")
	if err != nil {
		return nil, err
	}
	keys, err := many(ctx, s.tx, scanKey, selectKey+`ORDER BY write_key COLLATE "C"`)
	if err != nil {
		return nil, err
	}
	out := make([]Change, 0, len(workspaces)+len(sources)+len(keys)+1)
	for i := range workspaces {
		out = append(out, Change{Workspace: &workspaces[i]})
	}
	for i := range sources {
		out = append(out, Change{Source: &sources[i]})
	}
	for i := range keys {
		out = append(out, Change{WriteKey: &keys[i]})
	}
	return out, nil
}

func (s pgSnapshot) Purge(ctx context.Context, before time.Time, keep []string) error {
	if _, err := s.tx.Exec(ctx,
		"DELETE FROM admin.write_key WHERE (revoked_at < $1 OR expires_at < $1) AND NOT write_key = ANY ($2)",
		before, keep); err != nil {
		return err
	}
	_, err := s.tx.Exec(ctx, `
		DELETE FROM admin.source s WHERE deleted_at < $1
		  AND NOT EXISTS (SELECT FROM admin.write_key k WHERE k.workspace_id = s.workspace_id AND k.source_id = s.source_id)`, before)
	return err
}
