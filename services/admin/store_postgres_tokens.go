package admin

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/jackc/pgx/v5"
)

type pgTokens struct{ tx pgx.Tx }

const tokenColumns = `token_id, organisation_id, workspace_id, name, scopes, secret_hash, created_at, expires_at, revoked_at, last_used_at`

const authenticateToken = "SELECT " + tokenColumns + `,
	CASE WHEN workspace_id IS NOT NULL THEN ARRAY[workspace_id]
	     ELSE ARRAY(SELECT w.workspace_id FROM admin.workspace w WHERE w.organisation_id = t.organisation_id ORDER BY 1)
	END::text[]
	FROM admin.api_token t WHERE secret_hash = $1`

const selectToken = "SELECT " + tokenColumns + " FROM admin.api_token "

func scanToken(row pgx.CollectableRow) (APIToken, error) { return scanTokenAnd(row) }

// scanTokenAnd reads the columns of a token, and those that follow them into more.
func scanTokenAnd(row pgx.CollectableRow, more ...any) (APIToken, error) {
	var t APIToken
	var workspace *string
	var hash []byte
	var expires, revoked, used *time.Time
	err := row.Scan(append([]any{
		&t.ID, &t.OrganisationID, &workspace, &t.Name, &t.Scopes, &hash, &t.CreatedAt, &expires, &revoked, &used,
	}, more...)...)
	copy(t.SecretHash[:], hash)
	t.WorkspaceID = deref(workspace)
	t.CreatedAt, t.ExpiresAt, t.RevokedAt, t.LastUsedAt = t.CreatedAt.UTC(), utc(expires), utc(revoked), utc(used)
	return t, err
}

func (s pgTokens) Insert(ctx context.Context, t APIToken) error {
	_, err := s.tx.Exec(ctx, "INSERT INTO admin.api_token ("+tokenColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
		t.ID, t.OrganisationID, nullText(t.WorkspaceID), t.Name, t.Scopes, t.SecretHash[:], t.CreatedAt,
		nullTime(t.ExpiresAt), nullTime(t.RevokedAt), nullTime(t.LastUsedAt))
	return err
}

func (s pgTokens) Get(ctx context.Context, id string) (APIToken, error) {
	return one(ctx, s.tx, scanToken, errTokenNotFound(), selectToken+"WHERE token_id = $1", id)
}

func (s pgTokens) Authenticate(ctx context.Context, hash [sha256.Size]byte) (APIToken, []string, error) {
	var workspaces []string
	t, err := one(ctx, s.tx, func(row pgx.CollectableRow) (APIToken, error) {
		return scanTokenAnd(row, &workspaces)
	}, errTokenNotFound(), authenticateToken, hash[:])
	return t, workspaces, err
}

func (s pgTokens) List(ctx context.Context, limit int) ([]APIToken, error) {
	return many(ctx, s.tx, scanToken, selectToken+"WHERE revoked_at IS NULL ORDER BY created_at, token_id LIMIT $1", limit)
}

func (s pgTokens) SetRevoked(ctx context.Context, id string, at time.Time) error {
	return update(ctx, s.tx, errTokenNotFound(), "UPDATE admin.api_token SET revoked_at = $2 WHERE token_id = $1", id, nullTime(at))
}

func (s pgTokens) Touch(ctx context.Context, id string, at time.Time) error {
	_, err := s.tx.Exec(ctx,
		"UPDATE admin.api_token SET last_used_at = $2 WHERE token_id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)",
		id, at, at.Add(-lastUsedStep))
	return err
}

type pgAudit struct{ tx pgx.Tx }

const auditColumns = "audit_id, organisation_id, workspace_id, actor, action, target, at, request_id"

func scanAudit(row pgx.CollectableRow) (AuditEntry, error) {
	var a AuditEntry
	var workspace *string
	err := row.Scan(&a.ID, &a.OrganisationID, &workspace, &a.Actor, &a.Action, &a.Target, &a.At, &a.RequestID)
	a.WorkspaceID, a.At = deref(workspace), a.At.UTC()
	return a, err
}

func (s pgAudit) Insert(ctx context.Context, a AuditEntry) (bool, error) {
	tag, err := s.tx.Exec(ctx,
		"INSERT INTO admin.audit_entry ("+auditColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (audit_id) DO NOTHING",
		a.ID, a.OrganisationID, nullText(a.WorkspaceID), a.Actor, a.Action, a.Target, a.At, a.RequestID)
	return tag.RowsAffected() == 1, err
}

// A page is a range of an index in its order. The first one begins before a place that no entry has, so that the
// statement, and with it the plan, is the same for all.
const (
	auditPage           = " AND (at, audit_id) < ($2, $3) ORDER BY at DESC, audit_id DESC LIMIT $4"
	auditOfWorkspace    = "SELECT " + auditColumns + " FROM admin.audit_entry WHERE workspace_id = $1" + auditPage
	auditOfOrganisation = "SELECT " + auditColumns + " FROM admin.audit_entry WHERE organisation_id = $1" + auditPage
)

func (s pgAudit) OfWorkspace(ctx context.Context, workspaceID string, after AuditCursor, limit int) ([]AuditEntry, error) {
	at, id := place(after)
	return many(ctx, s.tx, scanAudit, auditOfWorkspace, workspaceID, at, id, limit)
}

func (s pgAudit) OfOrganisation(ctx context.Context, organisationID string, after AuditCursor, limit int) ([]AuditEntry, error) {
	at, id := place(after)
	return many(ctx, s.tx, scanAudit, auditOfOrganisation, organisationID, at, id, limit)
}

func place(after AuditCursor) (at time.Time, id string) {
	if after.isZero() {
		return time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff"
	}
	return after.At, after.ID
}
