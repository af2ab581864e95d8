package activation

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// outcomePublisher writes one record per attempt.
type outcomePublisher struct {
	publisher *kafka.Publisher
	clock     clock.Clock
}

// publishPause is the wait before outcomes are offered again. Handing the batch back instead would send it again.
const publishPause = 500 * time.Millisecond

// Record implements OutcomeLog.
func (o *outcomePublisher) Record(ctx context.Context, destinationID, workspaceID string, attempts []attempt) error {
	records := make([]*kgo.Record, 0, len(attempts))
	for _, a := range attempts {
		value, err := proto.Marshal(outcomeProto(destinationID, workspaceID, a))
		if err != nil {
			return errs.Wrap(err, errs.Internal, "outcome_not_marshalled", "An outcome could not be written.")
		}
		rec := &kgo.Record{Topic: stream.Outcomes, Key: []byte(workspaceID + "/" + destinationID), Value: value}
		kafka.SetHeader(rec, kafka.HeaderWorkspace, workspaceID)
		kafka.SetHeader(rec, kafka.HeaderMessageType, "mekong.activation.v1.Outcome")
		kafka.SetHeader(rec, kafka.HeaderSchemaVersion, "1")
		records = append(records, rec)
	}
	for {
		res, err := o.publisher.Publish(ctx, records...)
		if err == nil || ctx.Err() != nil || errs.KindOf(err) != errs.Unavailable {
			return err
		}
		records = records[res.Prefix():]
		pause := o.clock.NewTimer(publishPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C():
		}
	}
}

func outcomeProto(destinationID, workspaceID string, a attempt) *activationv1.Outcome {
	out := &activationv1.Outcome{
		WorkspaceId: workspaceID, DestinationId: destinationID, MessageId: a.item.messageID,
		EventId: a.item.resolved.GetEvent().GetEventId(), ProfileId: a.item.resolved.GetProfileId(),
		Attempt: int32(a.number), Code: int32(a.result.code), Reason: a.result.reason, //nolint:gosec // small numbers
		LatencyMs: a.result.latency.Milliseconds(), AttemptedAt: timestamppb.New(a.at),
	}
	switch a.result.verdict {
	case delivered:
		out.Status = activationv1.OutcomeStatus_OUTCOME_STATUS_DELIVERED
	case retry:
		out.Status = activationv1.OutcomeStatus_OUTCOME_STATUS_RETRY
		out.NextAttemptAt = timestamppb.New(a.item.next)
	case refused:
		out.Status = activationv1.OutcomeStatus_OUTCOME_STATUS_DEAD
	}
	return out
}
