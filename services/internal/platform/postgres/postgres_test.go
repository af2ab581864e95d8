package postgres_test

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

const shopTable = `-- +goose Up
CREATE TABLE shop.orders (
	workspace_id uuid NOT NULL,
	number int NOT NULL,
	email text,
	PRIMARY KEY (workspace_id, number)
);
SELECT mekong.tenant_table('shop.orders');
CREATE TABLE shop.rates (currency text PRIMARY KEY, rate numeric NOT NULL CHECK (rate > 0));
`

func shop(files ...string) postgres.Set {
	fsys := fstest.MapFS{}
	for i, text := range append([]string{shopTable}, files...) {
		fsys["migrations/postgres/000"+string(rune('1'+i))+"_step.sql"] = &fstest.MapFile{Data: []byte(text)}
	}
	return postgres.Set{Name: "shop", FS: fsys, Dir: "migrations/postgres"}
}

func addOrder(ctx context.Context, tx pgx.Tx, workspace string, number int) error {
	_, err := tx.Exec(ctx, "INSERT INTO shop.orders (workspace_id, number) VALUES ($1, $2)", workspace, number)
	return err
}

func countOrders(n *int) postgres.TxFunc {
	return func(ctx context.Context, tx pgx.Tx) error {
		// The filter is forgotten on purpose.
		return tx.QueryRow(ctx, "SELECT count(*) FROM shop.orders").Scan(n)
	}
}

func TestTenancy(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, shop())
	ctx := t.Context()
	mine, other := ids.New(), ids.New()
	for i, workspace := range []string{mine, mine, other} {
		require.NoError(t, db.InWorkspace(ctx, workspace, func(ctx context.Context, tx pgx.Tx) error {
			return addOrder(ctx, tx, workspace, i)
		}))
	}

	var n int
	require.NoError(t, db.InWorkspace(ctx, mine, countOrders(&n)))
	require.Equal(t, 2, n)
	require.NoError(t, db.InWorkspaces(ctx, []string{mine, other}, countOrders(&n)))
	require.Equal(t, 3, n)
	require.NoError(t, db.InWorkspaces(ctx, nil, countOrders(&n)))
	require.Zero(t, n)
	require.NoError(t, db.InTx(ctx, countOrders(&n)))
	require.Zero(t, n)
	require.NoError(t, db.AsSystem(ctx, countOrders(&n)))
	require.Equal(t, 3, n)

	// Outside any transaction of ours, on connections that have just served one.
	for range 20 {
		require.NoError(t, db.Pool().QueryRow(ctx, "SELECT count(*) FROM shop.orders").Scan(&n))
		require.Zero(t, n)
	}

	err := db.InWorkspace(ctx, mine, func(ctx context.Context, tx pgx.Tx) error { return addOrder(ctx, tx, other, 9) })
	require.Equal(t, "row_forbidden", errs.CodeOf(err))
	require.Equal(t, errs.Forbidden, errs.KindOf(err))
	require.NoError(t, db.InWorkspace(ctx, mine, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE shop.orders SET number = number + 100 WHERE workspace_id = $1", other)
		require.Zero(t, tag.RowsAffected())
		return err
	}))
	err = db.InWorkspace(ctx, mine, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE shop.orders SET workspace_id = $1", other)
		return err
	})
	require.Equal(t, errs.Forbidden, errs.KindOf(err))

	for _, bad := range []string{"", "demo", "x'; DROP TABLE shop.orders; --"} {
		err := db.InWorkspace(ctx, bad, countOrders(&n))
		require.Equal(t, "workspace_id_invalid", errs.CodeOf(err))
	}
}

func TestServicesCannotChangeTheSchema(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, shop())
	for _, statement := range []string{
		"ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY",
		"DROP POLICY mekong_tenant ON shop.orders",
		"TRUNCATE shop.orders",
		"CREATE TABLE shop.mine (a int)",
		"UPDATE shop.goose_version SET version_id = 99",
		"SET ROLE mekong_admin",
		"COPY shop.rates FROM '/etc/passwd'",
	} {
		for _, in := range []func(context.Context, postgres.TxFunc, ...postgres.TxOption) error{db.InTx, db.AsSystem} {
			err := in(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, statement)
				return err
			})
			require.Equal(t, errs.Forbidden, errs.KindOf(err), statement)
		}
	}
}

func TestTransactionsRollBackOnErrorPanicAndCancel(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, shop())
	workspace := ids.New()
	boom := errors.New("boom")
	add := func(ctx context.Context, tx pgx.Tx) { require.NoError(t, addOrder(ctx, tx, workspace, 1)) }

	err := db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
		add(ctx, tx)
		return boom
	})
	require.ErrorIs(t, err, boom)
	require.Panics(t, func() {
		_ = db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
			add(ctx, tx)
			panic(boom)
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	err = db.InWorkspace(ctx, workspace, func(ctx context.Context, tx pgx.Tx) error {
		add(ctx, tx)
		cancel()
		return nil
	})
	require.Equal(t, errs.Unavailable, errs.KindOf(err))

	var n int
	require.NoError(t, db.AsSystem(t.Context(), countOrders(&n)))
	require.Zero(t, n)
	require.NoError(t, db.InWorkspace(t.Context(), workspace, countOrders(&n), postgres.Serializable, postgres.ReadOnly))
	err = db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
		return addOrder(ctx, tx, workspace, 1)
	}, postgres.ReadOnly)
	require.Error(t, err)
}

func TestErrorsHaveKindsAndNoValues(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, shop())
	workspace := ids.New()
	in := func(statement string, args ...any) error {
		return db.InWorkspace(t.Context(), workspace, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, statement, args...)
			return err
		})
	}
	const insert = "INSERT INTO shop.orders VALUES ($1, 1, 'ann@example.com')"
	require.NoError(t, in(insert, workspace))

	err := in(insert, workspace)
	require.Equal(t, errs.Conflict, errs.KindOf(err))
	require.Equal(t, "already_exists", errs.CodeOf(err))
	var sqlError *postgres.SQLError
	require.ErrorAs(t, err, &sqlError)
	require.Equal(t, "orders_pkey", sqlError.Constraint)

	err = in("SELECT 'ann@example.com'::uuid")
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	require.NotContains(t, err.Error(), "ann@")
	err = in("INSERT INTO shop.rates VALUES ('VND', -1)")
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	require.Contains(t, err.Error(), "rates_rate_check")
	require.Equal(t, errs.Internal, errs.KindOf(in("SELECT nothing")))
	err = db.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		var rate float64
		return tx.QueryRow(ctx, "SELECT rate FROM shop.rates").Scan(&rate)
	})
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	require.ErrorIs(t, err, pgx.ErrNoRows)

	err = db.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)")
		return err
	})
	require.Equal(t, "statement_timeout", errs.CodeOf(err))

	known := errs.New(errs.Invalid, "x", "y")
	require.Same(t, known, postgres.Classify(known))
	require.NoError(t, postgres.Classify(nil))
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	closed := testkit.FreeAddress(t)
	for name, tc := range map[string]struct{ url, code string }{
		"no url":         {"", "postgres_url_missing"},
		"not a url":      {"postgres://user:hunter2@[", "postgres_url_invalid"},
		"nobody listens": {"postgres://user:hunter2@" + closed + "/x", "postgres_unavailable"},
		"wrong password": {replaceUser(t, address, "mekong", "hunter2"), "postgres_login_refused"},
		"no database":    {replaceDatabase(t, address, "nowhere"), "database_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := postgres.DefaultConfig()
			cfg.URL, cfg.OpenTimeout = config.Secret(tc.url), 300*time.Millisecond
			_, err := postgres.Open(t.Context(), cfg)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestRetryRunsUntilTheConflictIsOver(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, shop())
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO shop.rates VALUES ('VND', 1)")
		return err
	}))
	// Two transactions that read before they write: under SERIALIZABLE one of each pair must lose.
	const writers, rounds = 4, 5
	done := make(chan error, writers)
	for range writers {
		go func() {
			done <- func() error {
				for range rounds {
					err := postgres.Retry(t.Context(), 200, func(ctx context.Context) error {
						return db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
							var rate int
							if err := tx.QueryRow(ctx, "SELECT rate::int FROM shop.rates").Scan(&rate); err != nil {
								return err
							}
							_, err := tx.Exec(ctx, "UPDATE shop.rates SET rate = $1", rate+1)
							return err
						}, postgres.Serializable)
					})
					if err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range writers {
		require.NoError(t, <-done)
	}
	var rate int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT rate::int FROM shop.rates").Scan(&rate))
	require.Equal(t, 1+writers*rounds, rate)
}
