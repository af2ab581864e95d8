package clickhouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Set is the migrations of one context: Dir in FS holds NNNN_name.sql files whose statements name no database and can
// be repeated; Name is the context's name.
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

// Err is nil when the database is exactly as this binary needs it.
func (s SetStatus) Err() error {
	switch {
	case s.Applied > s.Known:
		return errs.New(errs.Precondition, "database_newer",
			fmt.Sprintf("the ClickHouse schema %s is at version %d, this program knows %d: start the newer version of Mekong again, or restore a backup from before the upgrade", s.Name, s.Applied, s.Known))
	case s.Applied < s.Known:
		return errs.New(errs.Precondition, "database_not_migrated",
			fmt.Sprintf("the ClickHouse schema %s is at version %d, this program needs %d: run the migrations first", s.Name, s.Applied, s.Known))
	default:
		return nil
	}
}

// Migrate brings a set to the newest version that this binary knows; it changes nothing when a newer binary was here.
// ClickHouse has no lock to hold: let one process migrate at a time. Should two do it, the statements, being
// repeatable, still end in the same tables.
func Migrate(ctx context.Context, db *DB, set Set) error {
	pool, provider, err := db.provider(set)
	if err != nil {
		return err
	}
	defer pool.Close() //nolint:errcheck // statements are done by then
	status, err := statusIn(ctx, provider, set)
	if err != nil {
		return err
	}
	if status.Applied > status.Known {
		return status.Err()
	}
	if _, err := provider.Up(ctx); err != nil {
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			cause := Classify(partial.Err)
			return errs.Wrap(cause, errs.KindOf(cause), "migration_failed",
				fmt.Sprintf("migration %d of %s failed; it is run again from its start next time", partial.Failed.Source.Version, set.Name))
		}
		return Classify(err)
	}
	if status, err = statusIn(ctx, provider, set); err != nil {
		return err
	}
	return status.Err()
}

// Status compares a set with the database; it creates the table of versions when that is missing.
func Status(ctx context.Context, db *DB, set Set) (SetStatus, error) {
	pool, provider, err := db.provider(set)
	if err != nil {
		return SetStatus{}, err
	}
	defer pool.Close() //nolint:errcheck // nothing was written
	return statusIn(ctx, provider, set)
}

func (db *DB) provider(set Set) (*sql.DB, *goose.Provider, error) {
	if !regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`).MatchString(set.Name) || set.FS == nil {
		return nil, nil, errs.New(errs.Invalid, "migration_set_invalid", "a migration set needs a lower-case name and its files")
	}
	dir, err := fs.Sub(set.FS, set.Dir)
	if err != nil {
		return nil, nil, errs.Wrap(err, errs.Internal, "migration_set_invalid", "the migrations of "+set.Name+" cannot be read")
	}
	opts := db.options
	opts.Settings = driver.Settings{"mutations_sync": 2}
	// database/sql takes pool sizes from its own methods only and refuses these.
	opts.MaxOpenConns, opts.MaxIdleConns = 0, 0
	pool := driver.OpenDB(&opts)
	pool.SetMaxOpenConns(1)
	provider, err := goose.NewProvider(goose.DialectClickHouse, pool, dir,
		goose.WithTableName("goose_"+set.Name),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		_ = pool.Close()
		return nil, nil, errs.Wrap(err, errs.Internal, "migration_set_invalid", "the migrations of "+set.Name+" cannot be read")
	}
	return pool, provider, nil
}

func statusIn(ctx context.Context, provider *goose.Provider, set Set) (SetStatus, error) {
	status := SetStatus{Name: set.Name}
	for _, source := range provider.ListSources() {
		status.Known = max(status.Known, source.Version)
	}
	applied, err := provider.GetDBVersion(ctx)
	if err != nil {
		return SetStatus{}, Classify(err)
	}
	status.Applied = applied
	return status, nil
}
