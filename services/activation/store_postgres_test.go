package activation

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// countRows forgets the filter on purpose.
func countRows(table string, n *int) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM activation."+table).Scan(n)
	}
}

// Statements without any filter, as if someone had forgotten it.
func TestAForgottenFilterShowsNothing(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	s := newPostgresStore(db)
	d := insert(t, s, destination(ids.New(), "a"))
	c := claimOf(t, s, 0)
	park(t, s, c, d, 1, "a1")
	p := parkingOf(d, start)
	p.Dead = []deadMessage{{MessageID: messageID(d, "dead"), Value: []byte("dead"), Reason: "r"}}
	require.NoError(t, s.Park(t.Context(), c, p))
	stranger := ids.New()
	for _, table := range []string{"destination", "parked_device", "parked_message", "dead_message"} {
		for name, want := range map[string]int{"": 0, stranger: 0, d.WorkspaceID: 1} {
			var n int
			if name == "" {
				require.NoError(t, db.InTx(t.Context(), countRows(table, &n)))
			} else {
				require.NoError(t, db.InWorkspace(t.Context(), name, countRows(table, &n)))
			}
			require.Equal(t, want, n, table)
		}
		require.NoError(t, db.InWorkspace(t.Context(), stranger, func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "DELETE FROM activation."+table)
			require.Zero(t, tag.RowsAffected(), table)
			return err
		}))
		err := db.InWorkspace(t.Context(), d.WorkspaceID, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE activation."+table+" SET workspace_id = $1", stranger)
			return err
		})
		require.Equal(t, errs.Forbidden, errs.KindOf(err), table)
	}
	for i := range 8 { // partitions are tables of their own
		var n int
		require.NoError(t, db.InTx(t.Context(), countRows("parked_message_"+string(rune('0'+i)), &n)))
		require.Zero(t, n)
	}
}
