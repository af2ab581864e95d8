package pgtest

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

// RunConformance checks the server and role of address. It creates what Mekong itself would and cleans up its own tables.
func RunConformance(t *testing.T, address string) {
	t.Helper()
	require.NoError(t, postgres.Bootstrap(t.Context(), address))
	schema := "conformance_" + strings.ReplaceAll(ids.New(), "-", "")
	admin := connect(t, address)
	exec(t, admin, "CREATE SCHEMA "+schema)
	t.Cleanup(func() {
		_, err := admin.Exec(context.WithoutCancel(t.Context()), "DROP SCHEMA "+schema+" CASCADE")
		require.NoError(t, err)
	})
	for name, check := range map[string]func(*testing.T, string, string){
		"Login": checkLogin, "Settings": checkSettings, "Extensions": checkExtensions, "Isolation": checkIsolation,
		"AdvisoryLocks": checkAdvisoryLocks, "Notifications": checkNotifications, "TransactionIDs": checkTransactionIDs,
		"Copy": checkCopy, "JSON": checkJSON, "RoleIsNoSuperuser": checkRole,
	} {
		t.Run(name, func(t *testing.T) { check(t, address, schema) })
	}
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	require.NoError(t, err, statement)
}

func one[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(&value), query)
	return value
}

func checkLogin(t *testing.T, address, _ string) {
	require.Equal(t, "scram-sha-256", one[string](t, connect(t, address), "SHOW password_encryption"))
	for _, user := range []func(*url.URL){
		func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "wrong") },
		func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "") },
		func(u *url.URL) { u.User = url.UserPassword("nobody_"+ids.New(), "wrong") },
	} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		user(u)
		_, err = pgx.Connect(t.Context(), u.String())
		require.Error(t, err)
		if _, set := u.User.Password(); set && u.User.String() != "" && !strings.HasSuffix(u.User.String(), ":") {
			require.Equal(t, "28P01", sqlState(err))
		}
	}
}

func checkSettings(t *testing.T, address, _ string) {
	conn := connect(t, address)
	require.Equal(t, "UTF8", one[string](t, conn, "SHOW server_encoding"))
	for _, setting := range []string{"data_checksums", "fsync", "full_page_writes", "synchronous_commit"} {
		require.Equal(t, "on", one[string](t, conn, "SHOW "+setting), setting)
	}
	require.GreaterOrEqual(t, one[int](t, conn, "SELECT current_setting('max_connections')::int"), 50)
	require.Equal(t, "Đà Nẵng", one[string](t, conn, "SELECT $1::text", "Đà Nẵng"))
}

func checkExtensions(t *testing.T, address, schema string) {
	conn := connect(t, address)
	require.InDelta(t, 1, one[float64](t, conn, "SELECT similarity('mekong', 'mekong')::float8"), 0.001)
	require.True(t, one[bool](t, conn, "SELECT 'ANN@example.com'::citext = 'ann@EXAMPLE.com'::citext"))
	require.Equal(t, "Hanoi", one[string](t, conn, "SELECT unaccent('Hànội')"))
	exec(t, conn, "CREATE TABLE "+schema+".g (w uuid, j jsonb, n text)")
	exec(t, conn, "CREATE INDEX ON "+schema+".g USING gin (w, j, n gin_trgm_ops)")
}

func checkIsolation(t *testing.T, address, schema string) {
	a, b := connect(t, address), connect(t, address)
	exec(t, a, "CREATE TABLE "+schema+".i (n int)")
	exec(t, a, "INSERT INTO "+schema+".i VALUES (1)")

	// Repeatable read keeps its snapshot, read committed does not.
	for level, want := range map[pgx.TxIsoLevel]int{pgx.RepeatableRead: 0, pgx.ReadCommitted: 1} {
		tx, err := a.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		before := one[int](t, tx.Conn(), "SELECT count(*) FROM "+schema+".i")
		exec(t, b, "INSERT INTO "+schema+".i VALUES (2)")
		require.Equal(t, before+want, one[int](t, tx.Conn(), "SELECT count(*) FROM "+schema+".i"), string(level))
		require.NoError(t, tx.Rollback(t.Context()))
	}

	// Serializable: two that count, then insert, cannot both commit.
	var failures []string
	ta, err := a.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.Serializable})
	require.NoError(t, err)
	tb, err := b.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.Serializable})
	require.NoError(t, err)
	for _, tx := range []pgx.Tx{ta, tb} {
		one[int](t, tx.Conn(), "SELECT count(*) FROM "+schema+".i")
	}
	for _, tx := range []pgx.Tx{ta, tb} {
		_, err := tx.Exec(t.Context(), "INSERT INTO "+schema+".i VALUES (3)")
		if err == nil {
			err = tx.Commit(t.Context())
		}
		if err != nil {
			failures = append(failures, sqlState(err))
		}
		_ = tx.Rollback(t.Context()) // the loser's
	}
	require.Equal(t, []string{"40001"}, failures)
}

func checkAdvisoryLocks(t *testing.T, address, _ string) {
	a, b := connect(t, address), connect(t, address)
	const try = "SELECT pg_try_advisory_lock(4711)"
	require.True(t, one[bool](t, a, try))
	require.False(t, one[bool](t, b, try))
	require.NoError(t, a.Close(t.Context()))
	require.Eventually(t, func() bool { return one[bool](t, b, try) }, 10*time.Second, 10*time.Millisecond, "a lock ends with its session")
}

func checkNotifications(t *testing.T, address, _ string) {
	a, b := connect(t, address), connect(t, address)
	exec(t, a, "LISTEN conformance")
	exec(t, b, "NOTIFY conformance, 'hello'")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	notification, err := a.WaitForNotification(ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", notification.Payload)
}

func checkTransactionIDs(t *testing.T, address, _ string) {
	a, b := connect(t, address), connect(t, address)
	tx, err := a.Begin(t.Context())
	require.NoError(t, err)
	running := one[string](t, tx.Conn(), "SELECT pg_current_xact_id()::text")
	const settled = "SELECT $1::xid8 < pg_snapshot_xmin(pg_current_snapshot())"
	require.False(t, one[bool](t, b, settled, running))
	require.NoError(t, tx.Commit(t.Context()))
	require.Eventually(t, func() bool { return one[bool](t, b, settled, running) }, 30*time.Second, 20*time.Millisecond)
}

func checkCopy(t *testing.T, address, schema string) {
	conn := connect(t, address)
	exec(t, conn, "CREATE TABLE "+schema+".c (id int PRIMARY KEY, v text)")
	const rows = 10_000
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{schema, "c"}, []string{"id", "v"},
		pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i, "Việt\t\n\\N"}, nil }))
	require.NoError(t, err)
	require.EqualValues(t, rows, n)
	require.Equal(t, rows, one[int](t, conn, "SELECT count(*) FROM "+schema+".c WHERE v = $1", "Việt\t\n\\N"))
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{schema, "c"}, []string{"id", "v"},
		pgx.CopyFromRows([][]any{{rows, "new"}, {0, "taken"}}))
	require.Equal(t, "23505", sqlState(err))
	require.Equal(t, rows, one[int](t, conn, "SELECT count(*) FROM "+schema+".c"), "a copy is all or nothing")
}

func checkJSON(t *testing.T, address, _ string) {
	conn := connect(t, address)
	const document = `{"a": {"b": [1, "x", null]}, "n": 12345678901234567890123}`
	require.Equal(t, "x", one[string](t, conn, "SELECT $1::jsonb #>> '{a,b,1}'", document))
	require.Equal(t, "12345678901234567890123", one[string](t, conn, "SELECT $1::jsonb ->> 'n'", document))
	require.True(t, one[bool](t, conn, "SELECT $1::jsonb @? '$.a.b[*] ? (@ == 1)'", document))
}

func checkRole(t *testing.T, address, _ string) {
	conn := connect(t, address)
	require.False(t, one[bool](t, conn, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"))
	for _, role := range []string{postgres.RoleOwner, postgres.RoleApp, postgres.RoleSystem} {
		exec(t, conn, "SET ROLE "+role)
		require.Equal(t, role, one[string](t, conn, "SELECT current_user::text"))
	}
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
