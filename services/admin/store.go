package admin

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"
)

// Access says which rows a transaction may see and write. The stores hold to it by themselves, so that a query that
// forgets its filter still shows nothing of others. The zero value opens nothing.
type Access struct {
	// OrganisationID opens the rows of a whole organisation: itself, its workspaces, its tokens, its audit log.
	OrganisationID string
	// WorkspaceIDs open the rows of single workspaces.
	WorkspaceIDs []string
	// System opens everything: for the service's own work, never on behalf of a caller.
	System bool
}

func (a Access) toOrganisation(id string) bool {
	return a.System || (id != "" && a.OrganisationID == id)
}

func (a Access) toWorkspace(id string) bool {
	return a.System || (id != "" && slices.Contains(a.WorkspaceIDs, id))
}

// Store runs transactions: all of fn is written, or nothing. fn may run again after a lost race.
type Store interface {
	// View runs fn, which only reads.
	View(ctx context.Context, access Access, fn TxFunc) error
	// Change runs fn while no other Change runs on any instance: what it publishes reaches the log in the order in which
	// it was decided.
	Change(ctx context.Context, access Access, fn TxFunc) error
	// Append runs fn, which adds rows that no reader orders (audit entries, times of use), beside others.
	Append(ctx context.Context, access Access, fn TxFunc) error
}

// TxFunc is the work of one transaction.
type TxFunc func(ctx context.Context, tx Tx) error

// Tx is what a transaction can do, by noun.
type Tx struct {
	Organisations OrganisationStore
	Workspaces    WorkspaceStore
	Sources       SourceStore
	WriteKeys     WriteKeyStore
	Tokens        TokenStore
	Audit         AuditStore
	Snapshot      SnapshotStore
	Outbox        Outbox
}

// OrganisationStore keeps organisations.
type OrganisationStore interface {
	Insert(ctx context.Context, o Organisation) error
	// Get returns NotFound for one that access does not open.
	Get(ctx context.Context, id string) (Organisation, error)
	// List returns the oldest first.
	List(ctx context.Context, limit int) ([]Organisation, error)
}

// WorkspaceStore keeps workspaces.
type WorkspaceStore interface {
	// Insert returns Conflict slug_taken when any organisation has the slug.
	Insert(ctx context.Context, w Workspace) error
	Update(ctx context.Context, w Workspace) error
	Get(ctx context.Context, id string) (Workspace, error)
	GetBySlug(ctx context.Context, slug string) (Workspace, error)
	// List returns what access opens, by slug.
	List(ctx context.Context, limit int) ([]Workspace, error)
}

// SourceStore keeps sources.
type SourceStore interface {
	// Insert and Update return Conflict source_name_taken when a living source of the workspace has the name.
	Insert(ctx context.Context, s Source) error
	Update(ctx context.Context, s Source) error
	// Get returns NotFound for a deleted source.
	Get(ctx context.Context, workspaceID, sourceID string) (Source, error)
	// List returns the living sources of a workspace by name.
	List(ctx context.Context, workspaceID string, limit int) ([]Source, error)
}

// WriteKeyStore keeps write keys.
type WriteKeyStore interface {
	Insert(ctx context.Context, k WriteKey) error
	Update(ctx context.Context, k WriteKey) error
	// List returns the keys of a workspace, of one source unless sourceID is empty, that are accepted at now, oldest first.
	List(ctx context.Context, workspaceID, sourceID string, now time.Time) ([]WriteKey, error)
	// Resolve finds a key in any state, with its source in any state.
	Resolve(ctx context.Context, key string) (WriteKey, Source, error)
}

// TokenStore keeps API tokens.
type TokenStore interface {
	Insert(ctx context.Context, t APIToken) error
	Get(ctx context.Context, id string) (APIToken, error)
	// Authenticate finds a token in any state by the hash of its secret, with all workspaces that it may act in.
	Authenticate(ctx context.Context, hash [sha256.Size]byte) (APIToken, []string, error)
	// List returns those that are not revoked, oldest first.
	List(ctx context.Context, limit int) ([]APIToken, error)
	// SetRevoked stops the token, or with a zero time lets it work again.
	SetRevoked(ctx context.Context, id string, at time.Time) error
	// Touch sets last_used_at unless that was less than a minute before.
	Touch(ctx context.Context, id string, at time.Time) error
}

// AuditStore keeps the audit log.
type AuditStore interface {
	// Insert reports false when the entry was there already.
	Insert(ctx context.Context, a AuditEntry) (bool, error)
	// OfWorkspace returns up to limit entries of a workspace after the cursor, newest first.
	OfWorkspace(ctx context.Context, workspaceID string, after AuditCursor, limit int) ([]AuditEntry, error)
	// OfOrganisation is OfWorkspace for an organisation with all its workspaces.
	OfOrganisation(ctx context.Context, organisationID string, after AuditCursor, limit int) ([]AuditEntry, error)
}

// SnapshotStore reads and cleans what the log's readers must know.
type SnapshotStore interface {
	// Read returns the newest state of everything that access opens, deleted things included.
	Read(ctx context.Context) ([]Change, error)
	// Purge forgets sources and keys that ended before the given time; those in keep stay.
	Purge(ctx context.Context, before time.Time, keep []string) error
}

// Outbox takes what the log must learn: it leaves with the transaction, or not at all.
type Outbox interface {
	Changed(ctx context.Context, changes ...Change) error
	Recorded(ctx context.Context, a AuditEntry) error
	// Waiting reports whether the record of c has not left yet.
	Waiting(ctx context.Context, c Change) (bool, error)
}

// Change is the newest state of one thing: one field is set.
type Change struct {
	Workspace *Workspace
	Source    *Source
	WriteKey  *WriteKey
	// SnapshotCompleted ends a full publication.
	SnapshotCompleted time.Time
}
