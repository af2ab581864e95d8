package admin

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

// pausingStore halts a publication between reading the state and writing its messages.
type pausingStore struct {
	Store
	read, goOn chan struct{}
}

func (s pausingStore) Change(ctx context.Context, access Access, fn TxFunc) error {
	return s.Store.Change(ctx, access, s.pause(fn))
}

func (s pausingStore) Append(ctx context.Context, access Access, fn TxFunc) error {
	return s.Store.Append(ctx, access, s.pause(fn))
}

func (s pausingStore) pause(fn TxFunc) TxFunc {
	return func(ctx context.Context, tx Tx) error {
		tx.Snapshot = pausingSnapshot{tx.Snapshot, s}
		return fn(ctx, tx)
	}
}

type pausingSnapshot struct {
	SnapshotStore
	store pausingStore
}

func (s pausingSnapshot) Read(ctx context.Context) ([]Change, error) {
	changes, err := s.SnapshotStore.Read(ctx)
	close(s.store.read)
	<-s.store.goOn
	return changes, err
}

// A change that is made while the state is being published must come to the log behind it: compaction keeps the last.
func TestAChangeDuringAPublicationComesBehindIt(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	s := newService(t, NewPostgresStore(db))
	s.clock = clock.Real()
	boot, err := s.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err)
	source := demoSource(t, s, boot)
	pausing := pausingStore{s.store, make(chan struct{}), make(chan struct{})}
	publisher := newService(t, pausing)
	publisher.clock = clock.Real()

	published, changed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := publisher.PublishSnapshot(t.Context())
		published <- err
	}()
	<-pausing.read
	off := false
	go func() {
		_, err := s.UpdateSource(asService(t.Context()), UpdateSourceInput{WorkspaceID: boot.DemoWorkspaceID, SourceID: source.ID, Enabled: &off})
		changed <- err
	}()
	// The change waits, or (which is the fault) is through.
	require.Eventually(t, func() bool { return len(changed) > 0 || lockIsAwaited(t, db) }, patience, 10*time.Millisecond)
	close(pausing.goOn)
	require.NoError(t, <-published)
	require.NoError(t, <-changed)

	var revisions []int64
	require.NoError(t, db.AsSystem(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		values, err := many(ctx, tx, pgx.RowTo[[]byte], "SELECT value FROM admin.outbox WHERE key = $1 ORDER BY id", []byte("source:"+source.ID))
		for _, value := range values {
			c := &adminv1.ConfigChange{}
			require.NoError(t, proto.Unmarshal(value, c))
			revisions = append(revisions, c.GetRevision())
		}
		return err
	}))
	require.Len(t, revisions, 3)
	require.Equal(t, source.Revision, revisions[1])
	require.Greater(t, revisions[2], source.Revision)
}

func lockIsAwaited(t *testing.T, db *postgres.DB) bool {
	t.Helper()
	var n int
	require.NoError(t, db.AsSystem(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			SELECT count(*) FROM pg_locks
			WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&n)
	}))
	return n > 0
}

func TestOldThingsArePurged(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	source := d.newSource(t)
	require.NoError(t, d.DeleteSource(d.owner, d.a.ID, source.ID))
	gone := func() bool {
		d.published(t)
		_, err := d.PublishSnapshot(t.Context())
		require.NoError(t, err)
		changes, _ := d.published(t)
		require.NotNil(t, changes[len(changes)-1].GetSnapshotCompleted())
		for _, c := range changes {
			if c.GetSource().GetSourceId() == source.ID {
				require.True(t, c.GetSource().GetDeleted())
				return false
			}
		}
		return true
	}
	d.time.Advance(minDeletedRetention)
	require.False(t, gone(), "readers may be a week behind")
	d.time.Advance(d.cfg.DeletedRetention - minDeletedRetention + time.Second)
	require.True(t, gone())
}
