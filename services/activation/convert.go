package activation

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
)

// destinationProto leaves the signing secret out: it is shown once, when it is made.
func destinationProto(d Destination) *activationv1.Destination {
	return &activationv1.Destination{
		WorkspaceId: d.WorkspaceID, DestinationId: d.ID, Name: d.Name, Enabled: d.Enabled, Filter: d.Filter, Revision: d.Revision,
		Kind: &activationv1.Destination_Webhook{Webhook: &activationv1.Webhook{
			Url: d.Webhook.URL, Headers: d.Webhook.Headers,
			BatchSize: int32(d.Webhook.BatchSize), TimeoutS: int32(d.Webhook.TimeoutS), //nolint:gosec // both were validated to be small
		}},
		CreatedAt: timestamppb.New(d.CreatedAt), UpdatedAt: timestamppb.New(d.UpdatedAt),
	}
}

func queueProto(q Queue) *activationv1.QueueState {
	state := &activationv1.QueueState{Parked: q.Parked, Dead: q.Dead}
	if !q.OldestParkedAt.IsZero() {
		state.OldestParkedAt = timestamppb.New(q.OldestParkedAt)
	}
	return state
}
