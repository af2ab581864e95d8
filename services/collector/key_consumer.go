package collector

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// endRetry is the pause between attempts to learn where the topic ends, while Kafka is away.
const endRetry = 500 * time.Millisecond

// keyConsumer feeds the key ring from the topic of configuration changes: each process reads all of it, without a
// group. It has caught up once it has read a completed snapshot and everything that was there when it started.
type keyConsumer struct {
	cfg   kafka.Config
	ring  *keyRing
	log   *slog.Logger
	clock clock.Clock

	snapshot atomic.Bool
	loaded   atomic.Bool
	mu       sync.Mutex
	// want is where each partition ended at the start, next what is read up to; both nil until known.
	want map[int32]int64
	next map[int32]int64
}

// run reads until ctx is done.
func (c *keyConsumer) run(ctx context.Context, started func()) error {
	client, err := kafka.NewClient(c.cfg,
		kgo.ConsumeTopics(stream.ConfigChanges),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	started()
	if !c.findEnd(ctx, client) {
		return nil
	}
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachError(func(_ string, partition int32, err error) {
			c.log.WarnContext(ctx, "reading configuration changes failed", "partition", partition, "error", err)
		})
		c.apply(ctx, fetches)
	}
}

// findEnd learns where the topic ends now; false when ctx ended first.
func (c *keyConsumer) findEnd(ctx context.Context, client *kgo.Client) bool {
	for {
		ends, err := kadm.NewClient(client).ListEndOffsets(ctx, stream.ConfigChanges)
		if err == nil {
			err = ends.Error()
		}
		if err == nil && len(ends[stream.ConfigChanges]) > 0 {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.want, c.next = map[int32]int64{}, map[int32]int64{}
			ends.Each(func(o kadm.ListedOffset) {
				if o.Offset > 0 {
					c.want[o.Partition] = o.Offset
				}
			})
			return true
		}
		timer := c.clock.NewTimer(endRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C():
		}
	}
}

func (c *keyConsumer) apply(ctx context.Context, fetches kgo.Fetches) {
	c.ring.change(func(d *draft) {
		fetches.EachRecord(func(rec *kgo.Record) {
			if err := c.record(d, rec); err != nil {
				c.log.ErrorContext(ctx, "a configuration change cannot be read", "partition", rec.Partition, "offset", rec.Offset, "error", err)
			}
		})
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	fetches.EachRecord(func(rec *kgo.Record) { c.next[rec.Partition] = rec.Offset + 1 })
	for partition, end := range c.want {
		// Compaction and markers may leave no record at the very end; what lies below the next fetch is read.
		if c.next[partition] >= end {
			delete(c.want, partition)
		}
	}
	if len(c.want) == 0 && c.snapshot.Load() {
		c.loaded.Store(true)
	}
}

func (c *keyConsumer) record(d *draft, rec *kgo.Record) error {
	if len(rec.Value) == 0 {
		// A tombstone of a compacted topic: the last state said "deleted" or "revoked" already.
		return nil
	}
	var change adminv1.ConfigChange
	if err := proto.Unmarshal(rec.Value, &change); err != nil {
		return err
	}
	switch v := change.GetChange().(type) {
	case *adminv1.ConfigChange_Workspace:
		d.workspace(v.Workspace.GetWorkspaceId(), change.GetRevision(), v.Workspace.GetDeleted())
	case *adminv1.ConfigChange_Source:
		d.source(sourceFromProto(v.Source), change.GetRevision())
	case *adminv1.ConfigChange_WriteKey:
		d.writeKey(v.WriteKey.GetWriteKey(), change.GetRevision(), keyFromProto(v.WriteKey))
	case *adminv1.ConfigChange_SnapshotCompleted:
		c.snapshot.Store(true)
	}
	return nil
}

// ready returns nil once the read model is complete.
func (c *keyConsumer) ready(context.Context) error {
	if c.loaded.Load() {
		return nil
	}
	return errs.New(errs.Unavailable, "keys_not_loaded", "The collector is still reading the write keys")
}
