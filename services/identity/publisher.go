package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

const (
	resolvedEventMessage = "mekong.identity.v1.ResolvedEvent"
	profileChangeMessage = "mekong.identity.v1.ProfileChange"
	schemaVersion        = "1"
)

// Publisher writes records in order and stops at the first that fails.
type Publisher interface {
	Publish(ctx context.Context, records ...*kgo.Record) (kafka.Result, error)
}

// changeRow is what waits in the outbox for topic ProfileChanges.
func changeRow(c Change) (outbox.Row, error) {
	value, err := changeMessage(c)
	return outbox.Row{
		WorkspaceID: c.WorkspaceID, Topic: stream.ProfileChanges, Key: []byte(c.WorkspaceID + ":" + c.Profile.ID), Value: value,
		Headers: map[string]string{
			kafka.HeaderWorkspace: c.WorkspaceID, kafka.HeaderMessageType: profileChangeMessage, kafka.HeaderSchemaVersion: schemaVersion,
		},
	}, err
}

// relayTo returns how the outbox is published.
func relayTo(p Publisher) outbox.Publish {
	return func(ctx context.Context, rows []outbox.Row) error {
		records := make([]*kgo.Record, len(rows))
		for i, row := range rows {
			rec := &kgo.Record{Topic: row.Topic, Key: row.Key, Value: row.Value, Timestamp: row.CreatedAt}
			for name, value := range row.Headers {
				rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
			}
			slices.SortFunc(rec.Headers, func(a, b kgo.RecordHeader) int { return strings.Compare(a.Key, b.Key) })
			if row.Partition != nil {
				kafka.PinPartition(ctx, rec, *row.Partition)
			}
			records[i] = rec
		}
		_, err := p.Publish(ctx, records...)
		return err
	}
}
