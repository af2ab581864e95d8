package postgres

import (
	"context"
	"database/sql"
	_ "embed" // bootstrap.sql
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

//go:embed bootstrap.sql
var bootstrapSQL string

const (
	// versionTable lies in the schema of its context.
	versionTable = "goose_version"
	// migrationLock is the advisory lock of whoever migrates a database.
	migrationLock      = 0x6d656b6f6e67_01 // "mekong"
	migrationLockPause = 100 * time.Millisecond
	bootstrapAttempts  = 10
	minServerVersion   = 150000
)

// Set is the migrations of one context: Dir in FS holds NNNN_name.sql files, Name is the context's schema.
type Set struct {
	Name string
	FS   fs.FS
	Dir  string
}

// SetStatus compares one set with the database.
type SetStatus struct {
	Name string
	// Applied is the newest version in the database (0: none), Known the newest that this binary has.
	Applied, Known int64
}

// Pending reports whether migrations are still to be run.
func (s SetStatus) Pending() bool { return s.Applied < s.Known }

// Newer reports whether the database was migrated by a newer binary.
func (s SetStatus) Newer() bool { return s.Applied > s.Known }

// Err is nil when the database is exactly as this binary needs it.
func (s SetStatus) Err() error {
	switch {
	case s.Newer():
		return errs.New(errs.Precondition, "database_newer",
			fmt.Sprintf("the database schema %s is at version %d, this program knows %d: start the newer version of Mekong again, or restore a backup from before the upgrade", s.Name, s.Applied, s.Known))
	case s.Pending():
		return errs.New(errs.Precondition, "database_not_migrated",
			fmt.Sprintf("the database schema %s is at version %d, this program needs %d: run the migrations first", s.Name, s.Applied, s.Known))
	default:
		return nil
	}
}

// Bootstrap creates roles, extensions and the schema mekong where they are missing. Migrate includes it.
func Bootstrap(ctx context.Context, url string) error {
	return exclusively(ctx, url, bootstrap)
}

// Migrate brings all sets to the newest version that this binary knows, one process at a time; others wait. It changes
// nothing when any schema was migrated by a newer binary.
func Migrate(ctx context.Context, url string, sets []Set) error {
	for _, set := range sets {
		if err := set.validate(); err != nil {
			return err
		}
	}
	return exclusively(ctx, url, func(ctx context.Context, conn *pgx.Conn) error {
		statuses, err := statusOf(ctx, conn, sets)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			if s.Newer() {
				return s.Err()
			}
		}
		if err := bootstrap(ctx, conn); err != nil {
			return err
		}
		owner, err := ownerPool(ctx, url)
		if err != nil {
			return err
		}
		defer owner.Close()
		for _, set := range sets {
			if err := migrateSet(ctx, conn, owner, set); err != nil {
				return err
			}
		}
		return nil
	})
}

// MigrateSchema prepares a schema like that of a context for a library that brings its own migrations: migrate gets a
// pool of role mekong_owner and runs while no other process migrates; it must be repeatable.
func MigrateSchema(ctx context.Context, url, schema string, migrate func(ctx context.Context, owner *pgxpool.Pool) error) error {
	return exclusively(ctx, url, func(ctx context.Context, conn *pgx.Conn) error {
		if err := bootstrap(ctx, conn); err != nil {
			return err
		}
		owner, err := ownerPool(ctx, url)
		if err != nil {
			return err
		}
		defer owner.Close()
		if err := prepareSchema(ctx, owner, schema); err != nil {
			return err
		}
		return migrate(ctx, owner)
	})
}

// Status compares each set with the database without changing anything.
func Status(ctx context.Context, url string, sets []Set) ([]SetStatus, error) {
	conn, err := connectAs(ctx, url, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	return statusOf(ctx, conn, sets)
}

// RequireMigrated fails with a Precondition error unless the database is exactly as this binary needs it.
func RequireMigrated(ctx context.Context, url string, sets []Set) error {
	statuses, err := Status(ctx, url, sets)
	if err != nil {
		return err
	}
	for _, s := range statuses {
		if err := s.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s Set) validate() error {
	if !regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`).MatchString(s.Name) || s.FS == nil {
		return errs.New(errs.Invalid, "migration_set_invalid", "a migration set needs a lower-case name and its files")
	}
	return nil
}

// exclusively runs work on a connection of the login role that holds the migration lock.
func exclusively(ctx context.Context, url string, work func(context.Context, *pgx.Conn) error) error {
	conn, err := connectAs(ctx, url, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // closing gives the lock back whatever happens
	for {
		var got bool
		// Asking again instead of waiting in the server: a waiting session holds a snapshot, on which CREATE INDEX
		// CONCURRENTLY of the one who migrates would wait in turn.
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrationLock)).Scan(&got); err != nil {
			return Classify(err)
		}
		if got {
			break
		}
		timer := time.NewTimer(migrationLockPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
	return Classify(work(ctx, conn))
}

func bootstrap(ctx context.Context, conn *pgx.Conn) error {
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return err
	}
	if version < minServerVersion {
		return errs.New(errs.Precondition, "postgres_too_old", "PostgreSQL 15 or newer is needed")
	}
	var err error
	for range bootstrapAttempts {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, bootstrapSQL)
			return err
		})
		if !isCatalogRace(err) {
			break
		}
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" {
		return errs.Wrap(redact(pg), errs.Precondition, "bootstrap_not_permitted",
			"the login role may not prepare the database: let it own the database and give it CREATEROLE, or let an administrator run the migrations once")
	}
	return err
}

// isCatalogRace reports a collision with another database's bootstrap on the catalogs that databases share, which the
// advisory lock, being per database, cannot prevent.
func isCatalogRace(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return pg.Code == "XX000" || pg.Code == "23505" || pg.Code == "40P01" || pg.Code == "42710"
}

func ownerPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, invalidURL()
	}
	cfg.MaxConns = 2
	cfg.ConnConfig.RuntimeParams["TimeZone"] = "UTC"
	cfg.ConnConfig.RuntimeParams["application_name"] = "mekong-migrate"
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// row_security off turns "the policy hid every row" into an error.
		_, err := conn.Exec(ctx, "SET ROLE "+RoleOwner+"; SET row_security = off")
		return roleError(err)
	}
	// Connections are made when first needed, each under its caller's context.
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
}

func migrateSet(ctx context.Context, conn *pgx.Conn, owner *pgxpool.Pool, set Set) error {
	if err := prepareSchema(ctx, owner, set.Name); err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(owner)
	defer db.Close() //nolint:errcheck // gives connections back to owner, whose work is committed
	provider, err := providerOf(db, set)
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			cause := Classify(partial.Err)
			return errs.Wrap(cause, errs.KindOf(cause), "migration_failed",
				fmt.Sprintf("migration %d of %s failed and was rolled back", partial.Failed.Source.Version, set.Name))
		}
		return Classify(err)
	}
	if _, err := owner.Exec(ctx, "REVOKE INSERT, UPDATE, DELETE ON "+
		pgx.Identifier{set.Name, versionTable}.Sanitize()+" FROM mekong_app, mekong_system"); err != nil {
		return Classify(err)
	}
	statuses, err := statusOf(ctx, conn, []Set{set})
	if err != nil {
		return err
	}
	return statuses[0].Err()
}

// prepareSchema creates the schema of a context and lets the services use what its migrations will create.
func prepareSchema(ctx context.Context, owner *pgxpool.Pool, name string) error {
	schema := pgx.Identifier{name}.Sanitize()
	for _, statement := range []string{
		"CREATE SCHEMA IF NOT EXISTS " + schema,
		"GRANT USAGE ON SCHEMA " + schema + " TO mekong_app, mekong_system",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA " + schema + " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mekong_app, mekong_system",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA " + schema + " GRANT USAGE, SELECT ON SEQUENCES TO mekong_app, mekong_system",
	} {
		if _, err := owner.Exec(ctx, statement); err != nil {
			return Classify(err)
		}
	}
	return nil
}

func providerOf(db *sql.DB, set Set) (*goose.Provider, error) {
	dir, err := fs.Sub(set.FS, set.Dir)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, dir,
		goose.WithTableName(set.Name+"."+versionTable),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "migration_set_invalid", "the migrations of "+set.Name+" cannot be read")
	}
	return provider, nil
}

func statusOf(ctx context.Context, conn *pgx.Conn, sets []Set) ([]SetStatus, error) {
	out := make([]SetStatus, 0, len(sets))
	for _, set := range sets {
		status := SetStatus{Name: set.Name}
		// The provider only lists files here; it never gets to use its connection.
		provider, err := providerOf(stdlib.OpenDB(*conn.Config()), set)
		if err != nil {
			return nil, err
		}
		for _, source := range provider.ListSources() {
			status.Known = max(status.Known, source.Version)
		}
		if err := provider.Close(); err != nil {
			return nil, err
		}
		if status.Applied, err = appliedVersion(ctx, conn, set.Name); err != nil {
			return nil, err
		}
		out = append(out, status)
	}
	return out, nil
}

func appliedVersion(ctx context.Context, conn *pgx.Conn, schema string) (int64, error) {
	table := pgx.Identifier{schema, versionTable}.Sanitize()
	var exists bool
	// Read from the catalog: to_regclass would need a right on the schema that the login role does not inherit.
	if err := conn.QueryRow(ctx,
		"SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)",
		schema, versionTable).Scan(&exists); err != nil {
		return 0, Classify(err)
	}
	if !exists {
		return 0, nil
	}
	var version int64
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL ROLE "+RoleOwner); err != nil {
			return roleError(err)
		}
		return tx.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+table).Scan(&version)
	})
	return version, Classify(err)
}

// UnprotectedTables lists the tables with a column workspace_id that are not under forced row-level security.
func UnprotectedTables(ctx context.Context, url string) ([]string, error) {
	conn, err := connectAs(ctx, url, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	rows, err := conn.Query(ctx, `
		SELECT n.nspname || '.' || c.relname
		FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
		  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
		ORDER BY 1`)
	if err != nil {
		return nil, Classify(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return tables, Classify(err)
}
