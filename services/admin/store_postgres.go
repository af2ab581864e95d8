package admin

import (
	"context"
	"embed"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

//go:embed migrations/postgres/*.sql
var migrations embed.FS

// Migrations returns the tables of schema admin.
func Migrations() postgres.Set {
	return postgres.Set{Name: "admin", FS: migrations, Dir: "migrations/postgres"}
}

const (
	// changeLock is the advisory lock that puts all changes of the read model in a row.
	changeLock = 0x61646d696e_01 // "admin"
	// attempts of a transaction that loses to another one.
	attempts = 5
)

// PostgresStore is the Store of schema admin.
type PostgresStore struct {
	db *postgres.DB
}

// NewPostgresStore returns the store of a migrated database.
func NewPostgresStore(db *postgres.DB) *PostgresStore { return &PostgresStore{db} }

// View implements Store.
func (s *PostgresStore) View(ctx context.Context, access Access, fn TxFunc) error {
	// One snapshot for all statements of fn.
	return s.run(ctx, access, fn, "", postgres.RepeatableRead, postgres.ReadOnly)
}

// Change implements Store.
func (s *PostgresStore) Change(ctx context.Context, access Access, fn TxFunc) error {
	return s.run(ctx, access, fn, "SELECT pg_advisory_xact_lock($1)")
}

// Append implements Store.
func (s *PostgresStore) Append(ctx context.Context, access Access, fn TxFunc) error {
	return s.run(ctx, access, fn, "")
}

func (s *PostgresStore) run(ctx context.Context, access Access, fn TxFunc, lock string, opts ...postgres.TxOption) error {
	work := func(ctx context.Context, tx pgx.Tx) error {
		if lock != "" {
			if _, err := tx.Exec(ctx, lock, int64(changeLock)); err != nil {
				return err
			}
		}
		return fn(ctx, postgresTx(tx))
	}
	return postgres.Retry(ctx, attempts, func(ctx context.Context) error {
		if access.System {
			return s.db.AsSystem(ctx, work, opts...)
		}
		return s.db.InWorkspaces(ctx, access.tenants(), work, opts...)
	})
}

// tenants is the list that the policies of the tables compare with.
func (a Access) tenants() []string {
	list := make([]string, 0, len(a.WorkspaceIDs)+1)
	if a.OrganisationID != "" {
		list = append(list, a.OrganisationID)
	}
	return append(list, a.WorkspaceIDs...)
}

func postgresTx(tx pgx.Tx) Tx {
	return Tx{
		Organisations: pgOrganisations{tx}, Workspaces: pgWorkspaces{tx}, Sources: pgSources{tx}, WriteKeys: pgKeys{tx},
		Tokens: pgTokens{tx}, Audit: pgAudit{tx}, Snapshot: pgSnapshot{tx}, Outbox: pgOutbox{tx},
	}
}

// nullTime writes the zero time as null.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// nullText writes the empty text as null.
func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

func utc(p *time.Time) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.UTC()
}

// one reads a single row; missing is the answer when there is none.
func one[T any](ctx context.Context, tx pgx.Tx, scan pgx.RowToFunc[T], missing error, sql string, args ...any) (T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, err
	}
	value, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return value, missing
	}
	return value, err
}

func many[T any](ctx context.Context, tx pgx.Tx, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// update runs a statement that must change one row; missing is the answer when it changed none.
func update(ctx context.Context, tx pgx.Tx, missing error, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		return missing
	}
	return err
}

// taken answers for a unique constraint in the words of the domain.
func taken(err error, constraint string, answer error) error {
	var sql *postgres.SQLError
	if err := postgres.Classify(err); errors.As(err, &sql) && sql.Code == "23505" && sql.Constraint == constraint {
		return answer
	}
	return err
}
