package admin

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func tables() []string {
	return []string{
		"admin.organisation", "admin.workspace", "admin.source", "admin.write_key", "admin.api_token", "admin.audit_entry", "admin.outbox",
	}
}

// countRows forgets the filter on purpose.
func countRows(table string, n *int) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(n)
	}
}

func exec(statement string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statement)
		return err
	}
}

// Statements without any filter, as if someone had forgotten it.
func TestAForgottenFilterShowsNothing(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	s := newService(t, NewPostgresStore(db))
	boot, err := s.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err)
	for _, table := range tables() {
		var n int
		require.NoError(t, db.AsSystem(t.Context(), countRows(table, &n)))
		require.Positive(t, n, table)
		require.NoError(t, db.InTx(t.Context(), countRows(table, &n)))
		require.Zero(t, n, table)
		require.NoError(t, db.InWorkspace(t.Context(), ids.New(), countRows(table, &n)))
		require.Zero(t, n, table)
	}
	for _, table := range []string{"admin.source", "admin.workspace"} {
		var n int
		require.NoError(t, db.InWorkspace(t.Context(), boot.DemoWorkspaceID, countRows(table, &n)))
		require.Equal(t, 1, n, table)
	}
	stranger := ids.New()
	for _, statement := range []string{
		"UPDATE admin.source SET enabled = false", "UPDATE admin.write_key SET revision = 0", "DELETE FROM admin.api_token",
		"UPDATE admin.workspace SET name = 'mine'", "UPDATE admin.organisation SET name = 'mine'",
	} {
		require.NoError(t, db.InWorkspace(t.Context(), stranger, func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, statement)
			require.Zero(t, tag.RowsAffected(), statement)
			return err
		}))
	}
	// A row cannot be moved into another workspace either.
	err = db.InWorkspace(t.Context(), boot.DemoWorkspaceID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE admin.audit_entry SET workspace_id = $1", stranger)
		return err
	})
	require.Equal(t, errs.Forbidden, errs.KindOf(err))
	err = db.InWorkspace(t.Context(), boot.DemoWorkspaceID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE admin.source SET workspace_id = $1", stranger)
		return err
	})
	require.Equal(t, errs.Forbidden, errs.KindOf(err))
}

// A token or an entry of one organisation cannot name a workspace of another, even for the service itself.
func TestAWorkspaceBelongsToTheOrganisationBesideIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, NewPostgresStore(testkit.PostgresDB(t, Migrations())))
	err := h.Change(t.Context(), system(), func(ctx context.Context, tx Tx) error {
		return tx.Tokens.Insert(ctx, APIToken{
			ID: ids.New(), OrganisationID: h.mine.ID, WorkspaceID: h.c.ID, Name: "n", Scopes: []string{"*"}, CreatedAt: start,
		})
	})
	require.Equal(t, errs.Precondition, errs.KindOf(err))
}

func TestTheAuditLogCannotBeRewritten(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	for _, statement := range []string{"UPDATE admin.audit_entry SET actor = 'x'", "DELETE FROM admin.audit_entry", "TRUNCATE admin.audit_entry"} {
		err := db.AsSystem(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, statement)
			return err
		})
		require.Equal(t, errs.Forbidden, errs.KindOf(err), statement)
	}
}

// What grows, or is asked with every call, must stay a search in an index, without a sort.
func TestStatementsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	for index, tc := range map[string]struct {
		statement string
		args      []any
	}{
		"api_token_secret_key":         {authenticateToken, []any{make([]byte, 32)}},
		"audit_entry_workspace_idx":    {auditOfWorkspace, []any{ids.New(), start, ids.New(), 10}},
		"audit_entry_organisation_idx": {auditOfOrganisation, []any{ids.New(), start, ids.New(), 10}},
	} {
		require.NoError(t, db.InWorkspace(t.Context(), ids.New(), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"); err != nil {
				return err
			}
			plan, err := many(ctx, tx, pgx.RowTo[string], "EXPLAIN "+tc.statement, tc.args...)
			text := strings.Join(plan, "\n")
			require.Contains(t, text, index)
			require.NotContains(t, text, "Sort Key: at", index)
			return err
		}))
	}
}
