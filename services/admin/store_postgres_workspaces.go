package admin

import (
	"context"

	"github.com/jackc/pgx/v5"
)

type pgOrganisations struct{ tx pgx.Tx }

func scanOrganisation(row pgx.CollectableRow) (Organisation, error) {
	var o Organisation
	err := row.Scan(&o.ID, &o.Name, &o.CreatedAt)
	o.CreatedAt = o.CreatedAt.UTC()
	return o, err
}

func (s pgOrganisations) Insert(ctx context.Context, o Organisation) error {
	_, err := s.tx.Exec(ctx, "INSERT INTO admin.organisation (organisation_id, name, created_at) VALUES ($1, $2, $3)",
		o.ID, o.Name, o.CreatedAt)
	return err
}

func (s pgOrganisations) Get(ctx context.Context, id string) (Organisation, error) {
	return one(ctx, s.tx, scanOrganisation, errOrganisationNotFound(),
		"SELECT organisation_id, name, created_at FROM admin.organisation WHERE organisation_id = $1", id)
}

func (s pgOrganisations) List(ctx context.Context, limit int) ([]Organisation, error) {
	return many(ctx, s.tx, scanOrganisation,
		"SELECT organisation_id, name, created_at FROM admin.organisation ORDER BY created_at, organisation_id LIMIT $1", limit)
}

type pgWorkspaces struct{ tx pgx.Tx }

const selectWorkspace = `
	SELECT workspace_id, organisation_id, slug, name, time_zone, currency, revision, created_at FROM admin.workspace `

func scanWorkspace(row pgx.CollectableRow) (Workspace, error) {
	var w Workspace
	err := row.Scan(&w.ID, &w.OrganisationID, &w.Slug, &w.Name, &w.TimeZone, &w.Currency, &w.Revision, &w.CreatedAt)
	w.CreatedAt = w.CreatedAt.UTC()
	return w, err
}

func (s pgWorkspaces) Insert(ctx context.Context, w Workspace) error {
	_, err := s.tx.Exec(ctx, `
		INSERT INTO admin.workspace (workspace_id, organisation_id, slug, name, time_zone, currency, revision, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		w.ID, w.OrganisationID, w.Slug, w.Name, w.TimeZone, w.Currency, w.Revision, w.CreatedAt)
	return taken(err, "workspace_slug_key", errSlugTaken())
}

func (s pgWorkspaces) Update(ctx context.Context, w Workspace) error {
	return update(ctx, s.tx, errWorkspaceNotFound(),
		"UPDATE admin.workspace SET name = $2, time_zone = $3, currency = $4, revision = $5 WHERE workspace_id = $1",
		w.ID, w.Name, w.TimeZone, w.Currency, w.Revision)
}

func (s pgWorkspaces) Get(ctx context.Context, id string) (Workspace, error) {
	return one(ctx, s.tx, scanWorkspace, errWorkspaceNotFound(), selectWorkspace+"WHERE workspace_id = $1", id)
}

func (s pgWorkspaces) GetBySlug(ctx context.Context, slug string) (Workspace, error) {
	return one(ctx, s.tx, scanWorkspace, errWorkspaceNotFound(), selectWorkspace+"WHERE slug = $1", slug)
}

func (s pgWorkspaces) List(ctx context.Context, limit int) ([]Workspace, error) {
	return many(ctx, s.tx, scanWorkspace, selectWorkspace+`ORDER BY slug COLLATE "C" LIMIT $1`, limit)
}
