package postgres

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// TxFunc is the work of one transaction. It uses tx only until it returns; an error rolls back.
type TxFunc func(ctx context.Context, tx pgx.Tx) error

// TxOption changes how a transaction begins.
type TxOption string

// The options; without any a transaction is read committed and may write.
const (
	Serializable   TxOption = " ISOLATION LEVEL SERIALIZABLE"
	RepeatableRead TxOption = " ISOLATION LEVEL REPEATABLE READ"
	ReadOnly       TxOption = " READ ONLY"
)

// InWorkspace runs fn in a transaction that sees and writes rows of one workspace only.
func (db *DB) InWorkspace(ctx context.Context, workspaceID string, fn TxFunc, opts ...TxOption) error {
	return db.InWorkspaces(ctx, []string{workspaceID}, fn, opts...)
}

// InWorkspaces is InWorkspace for several, for micro-batches and for people with access to many. With none it sees nothing.
func (db *DB) InWorkspaces(ctx context.Context, workspaceIDs []string, fn TxFunc, opts ...TxOption) error {
	list, err := workspaceList(workspaceIDs)
	if err != nil {
		return err
	}
	return db.run(ctx, RoleApp, list, opts, fn)
}

// InTx runs fn in a transaction without any workspace: for tables that belong to no tenant (users, organisations).
func (db *DB) InTx(ctx context.Context, fn TxFunc, opts ...TxOption) error {
	return db.run(ctx, RoleApp, "", opts, fn)
}

// AsSystem runs fn in a transaction that sees and writes rows of all workspaces. Only for the engine's own work over
// everything (relays, recovery, retention), never on behalf of a user.
func (db *DB) AsSystem(ctx context.Context, fn TxFunc, opts ...TxOption) error {
	return db.run(ctx, RoleSystem, "", opts, fn)
}

func (db *DB) run(ctx context.Context, role, workspaces string, opts []TxOption, fn TxFunc) error {
	var begin strings.Builder
	begin.WriteString("BEGIN")
	for _, opt := range opts {
		begin.WriteString(string(opt))
	}
	// One round trip: the list holds canonical UUIDs only, so it needs no quoting.
	begin.WriteString("; SET LOCAL ROLE " + role + "; SET LOCAL mekong.workspaces = '{" + workspaces + "}'")

	tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin.String()})
	if err != nil {
		return Classify(err)
	}
	defer func() {
		// Harmless after Commit; after an error or a panic it must not depend on a context that may be over.
		_ = tx.Rollback(context.WithoutCancel(ctx))
	}()
	if err := fn(ctx, tx); err != nil {
		return Classify(err)
	}
	return Classify(tx.Commit(ctx))
}

func workspaceList(ids []string) (string, error) {
	var b strings.Builder
	for i, id := range ids {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return "", errs.New(errs.Invalid, "workspace_id_invalid", "a workspace id must be a UUID")
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(parsed.String())
	}
	return b.String(), nil
}
