package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

const secondStep = "-- +goose Up\nALTER TABLE shop.orders ADD COLUMN note text;\n"

func TestMigrateIsRepeatableAndOneAtATime(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	sets := []postgres.Set{shop()}
	require.Equal(t, "database_not_migrated", errs.CodeOf(postgres.RequireMigrated(t.Context(), address, sets)))

	const at = 4
	done := make(chan error, at)
	for range at {
		go func() { done <- postgres.Migrate(t.Context(), address, sets) }()
	}
	for range at {
		require.NoError(t, <-done)
	}
	require.NoError(t, postgres.RequireMigrated(t.Context(), address, sets))

	newer := []postgres.Set{shop(secondStep)}
	statuses, err := postgres.Status(t.Context(), address, newer)
	require.NoError(t, err)
	require.Equal(t, []postgres.SetStatus{{Name: "shop", Applied: 1, Known: 2}}, statuses)
	require.NoError(t, postgres.Migrate(t.Context(), address, newer))
	require.NoError(t, postgres.RequireMigrated(t.Context(), address, newer))
}

func TestMigrateRefusesADatabaseOfANewerProgram(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	require.NoError(t, postgres.Migrate(t.Context(), address, []postgres.Set{shop(secondStep)}))

	other := shop()
	other.Name = "other"
	err := postgres.Migrate(t.Context(), address, []postgres.Set{other, shop()})
	require.Equal(t, "database_newer", errs.CodeOf(err))
	require.Equal(t, errs.Precondition, errs.KindOf(err))
	require.ErrorContains(t, err, "version 2, this program knows 1")
	statuses, err := postgres.Status(t.Context(), address, []postgres.Set{other})
	require.NoError(t, err)
	require.Zero(t, statuses[0].Applied, "nothing may be migrated when one schema is newer")
}

func TestAFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	broken := shop("-- +goose Up\nCREATE TABLE shop.half (a int);\nSELECT 1 / 0;\n")
	err := postgres.Migrate(t.Context(), address, []postgres.Set{broken})
	require.Equal(t, "migration_failed", errs.CodeOf(err))
	require.ErrorContains(t, err, "migration 2 of shop")
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var half *string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT max(relname) FROM pg_class WHERE relname = 'half'").Scan(&half))
	require.Nil(t, half)
	require.NoError(t, postgres.Migrate(t.Context(), address, []postgres.Set{shop(secondStep)}))
}

func TestABackfillThatForgetsItsRoleFailsLoudly(t *testing.T) {
	t.Parallel()
	const fill = "UPDATE shop.orders SET email = '';\n"
	err := postgres.Migrate(t.Context(), testkit.PostgresURL(t), []postgres.Set{shop("-- +goose Up\n" + fill)})
	require.Equal(t, "migration_failed", errs.CodeOf(err))

	err = postgres.Migrate(t.Context(), testkit.PostgresURL(t), []postgres.Set{shop(
		"-- +goose Up\nSET LOCAL ROLE mekong_system;\nSET LOCAL row_security = on;\n" + fill + "SET LOCAL ROLE mekong_owner;\n")})
	require.NoError(t, err)
}

func TestUnprotectedTablesAreFound(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	set := shop("-- +goose Up\nCREATE TABLE shop.open (workspace_id uuid, a int);\n")
	require.NoError(t, postgres.Migrate(t.Context(), address, []postgres.Set{set}))
	tables, err := postgres.UnprotectedTables(t.Context(), address)
	require.NoError(t, err)
	require.Equal(t, []string{"shop.open"}, tables)
}

func replaceUser(t *testing.T, address, user, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}

func replaceDatabase(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

func TestALoginWithoutTheRightsIsToldWhichItNeeds(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	poor := "poor_" + strings.ReplaceAll(ids.New(), "-", "")
	_, err = conn.Exec(t.Context(), "CREATE ROLE "+poor+" LOGIN PASSWORD 'x'")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "DROP ROLE "+poor)
		require.NoError(t, err)
		require.NoError(t, conn.Close(context.WithoutCancel(t.Context())))
	})
	url := replaceUser(t, address, poor, "x")
	require.Equal(t, "bootstrap_not_permitted", errs.CodeOf(postgres.Bootstrap(t.Context(), url)))
	cfg := postgres.DefaultConfig()
	cfg.URL = config.Secret(url)
	_, err = postgres.Open(t.Context(), cfg)
	require.Equal(t, "role_not_granted", errs.CodeOf(err))
}

func TestASetNeedsAValidName(t *testing.T) {
	t.Parallel()
	address := testkit.PostgresURL(t)
	err := postgres.Migrate(t.Context(), address, []postgres.Set{{Name: "Bad Name", FS: shop().FS}})
	require.Equal(t, "migration_set_invalid", errs.CodeOf(err))
}
