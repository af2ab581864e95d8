package activation

import (
	"context"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// server is the gRPC door; REST comes to it through the gateway.
type server struct {
	activationv1.UnimplementedDestinationServiceServer
	service *Service
}

func (s *server) CreateDestination(
	ctx context.Context, in *activationv1.CreateDestinationRequest,
) (*activationv1.CreateDestinationResponse, error) {
	hook, err := webhookOf(in.GetWebhook())
	if err != nil {
		return nil, err
	}
	d, err := s.service.CreateDestination(ctx, DestinationInput{
		WorkspaceID: in.GetWorkspaceId(), Name: in.GetName(), Enabled: in.GetEnabled(), Filter: in.GetFilter(), Webhook: hook,
	})
	if err != nil {
		return nil, err
	}
	return &activationv1.CreateDestinationResponse{Destination: destinationProto(d), SigningSecret: d.SigningSecret}, nil
}

func (s *server) GetDestination(ctx context.Context, in *activationv1.GetDestinationRequest) (*activationv1.GetDestinationResponse, error) {
	d, queue, err := s.service.GetDestination(ctx, in.GetWorkspaceId(), in.GetDestinationId())
	if err != nil {
		return nil, err
	}
	return &activationv1.GetDestinationResponse{Destination: destinationProto(d), Queue: queueProto(queue)}, nil
}

func (s *server) ListDestinations(ctx context.Context, in *activationv1.ListDestinationsRequest) (*activationv1.ListDestinationsResponse, error) {
	list, err := s.service.ListDestinations(ctx, in.GetWorkspaceId())
	if err != nil {
		return nil, err
	}
	resp := &activationv1.ListDestinationsResponse{}
	for _, d := range list {
		resp.Destinations = append(resp.Destinations, destinationProto(d))
	}
	return resp, nil
}

func (s *server) UpdateDestination(
	ctx context.Context, in *activationv1.UpdateDestinationRequest,
) (*activationv1.UpdateDestinationResponse, error) {
	hook, err := webhookOf(in.GetWebhook())
	if err != nil {
		return nil, err
	}
	d, err := s.service.UpdateDestination(ctx, DestinationInput{
		WorkspaceID: in.GetWorkspaceId(), ID: in.GetDestinationId(), Name: in.GetName(), Enabled: in.GetEnabled(),
		Filter: in.GetFilter(), Webhook: hook, Revision: in.GetRevision(),
	})
	if err != nil {
		return nil, err
	}
	return &activationv1.UpdateDestinationResponse{Destination: destinationProto(d)}, nil
}

func (s *server) DeleteDestination(
	ctx context.Context, in *activationv1.DeleteDestinationRequest,
) (*activationv1.DeleteDestinationResponse, error) {
	if err := s.service.DeleteDestination(ctx, in.GetWorkspaceId(), in.GetDestinationId()); err != nil {
		return nil, err
	}
	return &activationv1.DeleteDestinationResponse{}, nil
}

func webhookOf(in *activationv1.Webhook) (Webhook, error) {
	if in == nil {
		return Webhook{}, errs.New(errs.Invalid, "destination_kind_missing", "Say what kind of destination it is: give webhook.")
	}
	return Webhook{URL: in.GetUrl(), Headers: in.GetHeaders(), BatchSize: int(in.GetBatchSize()), TimeoutS: int(in.GetTimeoutS())}, nil
}
