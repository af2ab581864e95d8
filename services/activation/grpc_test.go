package activation

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// tokens are the scopes that each token has in testWorkspace.
type tokens map[string][]string

func (k tokens) Authenticate(_ context.Context, token string) (tenant.Principal, error) {
	scopes, ok := k[token]
	if !ok {
		return tenant.Principal{}, tenant.ErrUnauthenticated()
	}
	return tenant.Principal{TokenID: token, WorkspaceIDs: []string{testWorkspace}, Scopes: scopes}, nil
}

// newDoor serves the service as a process does: real authentication, error mapping and marshalling.
func newDoor(t *testing.T) (clientOf func(token string) activationv1.DestinationServiceClient, store *memoryStore) {
	t.Helper()
	service, store, _ := newService()
	cfg := rpc.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	srv, err := rpc.NewServer(cfg, slog.New(slog.DiscardHandler), activationv1.DestinationService_ServiceDesc.ServiceName)
	require.NoError(t, err)
	srv.SetAuthenticator(tokens{"writer": {scopeWrite}, "reader": {scopeRead}})
	activationv1.RegisterDestinationServiceServer(srv, &server{service: service})
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- srv.Runner().Run(ctx, func() { close(started) }) }()
	<-started
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return func(token string) activationv1.DestinationServiceClient {
		conn, err := srv.DialMemory(config.Secret(token))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		return activationv1.NewDestinationServiceClient(conn)
	}, store
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	clientOf, store := newDoor(t)
	writer, reader := clientOf("writer"), clientOf("reader")
	hook := &activationv1.Webhook{Url: "https://receiver.example", Headers: map[string]string{"X-Key": "k"}, BatchSize: 20, TimeoutS: 3}
	created, err := writer.CreateDestination(t.Context(), &activationv1.CreateDestinationRequest{
		WorkspaceId: testWorkspace, Name: "a", Enabled: true, Filter: "true", Kind: &activationv1.CreateDestinationRequest_Webhook{Webhook: hook},
	})
	require.NoError(t, err)
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, created.GetSigningSecret())
	id := created.GetDestination().GetDestinationId()
	want := &activationv1.Destination{
		WorkspaceId: testWorkspace, DestinationId: id, Name: "a", Enabled: true, Filter: "true", Revision: 1,
		Kind:      &activationv1.Destination_Webhook{Webhook: hook},
		CreatedAt: timestamppb.New(start), UpdatedAt: timestamppb.New(start),
	}
	require.Empty(t, cmp.Diff(want, created.GetDestination(), protocmp.Transform()))

	d, err := store.Get(t.Context(), testWorkspace, id)
	require.NoError(t, err)
	park(t, store, claimOf(t, store, 0), d, 1, "m1", "m2")
	got, err := reader.GetDestination(t.Context(), &activationv1.GetDestinationRequest{WorkspaceId: testWorkspace, DestinationId: id})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(&activationv1.GetDestinationResponse{
		Destination: want, Queue: &activationv1.QueueState{Parked: 2, OldestParkedAt: timestamppb.New(start)},
	}, got, protocmp.Transform()))

	update := &activationv1.UpdateDestinationRequest{
		WorkspaceId: testWorkspace, DestinationId: id, Name: "b", Kind: &activationv1.UpdateDestinationRequest_Webhook{Webhook: hook}, Revision: 1,
	}
	updated, err := writer.UpdateDestination(t.Context(), update)
	require.NoError(t, err)
	require.EqualValues(t, 2, updated.GetDestination().GetRevision())
	require.False(t, updated.GetDestination().GetEnabled())
	list, err := reader.ListDestinations(t.Context(), &activationv1.ListDestinationsRequest{WorkspaceId: testWorkspace})
	require.NoError(t, err)
	require.Len(t, list.GetDestinations(), 1)

	for name, tc := range map[string]struct {
		kind errs.Kind
		call func() error
	}{
		"changed meanwhile": {errs.Conflict, func() error { _, err := writer.UpdateDestination(t.Context(), update); return err }},
		"no kind": {errs.Invalid, func() error {
			_, err := writer.CreateDestination(t.Context(), &activationv1.CreateDestinationRequest{WorkspaceId: testWorkspace, Name: "c"})
			return err
		}},
		"no kind in an update": {errs.Invalid, func() error {
			_, err := writer.UpdateDestination(t.Context(), &activationv1.UpdateDestinationRequest{WorkspaceId: testWorkspace, DestinationId: id, Revision: 2})
			return err
		}},
		"reader deletes": {errs.Forbidden, func() error {
			_, err := reader.DeleteDestination(t.Context(), &activationv1.DeleteDestinationRequest{WorkspaceId: testWorkspace, DestinationId: id})
			return err
		}},
		"unknown token": {errs.Unauthenticated, func() error {
			_, err := clientOf("nobody").ListDestinations(t.Context(), &activationv1.ListDestinationsRequest{WorkspaceId: testWorkspace})
			return err
		}},
		"other workspace": {errs.NotFound, func() error {
			_, err := writer.ListDestinations(t.Context(), &activationv1.ListDestinationsRequest{WorkspaceId: ids.New()})
			return err
		}},
		"no such destination": {errs.NotFound, func() error {
			_, err := writer.DeleteDestination(t.Context(), &activationv1.DeleteDestinationRequest{WorkspaceId: testWorkspace, DestinationId: ids.New()})
			return err
		}},
	} {
		require.Equal(t, tc.kind, errs.KindOf(rpc.FromStatus(tc.call())), name)
	}
	_, err = writer.DeleteDestination(t.Context(), &activationv1.DeleteDestinationRequest{WorkspaceId: testWorkspace, DestinationId: id})
	require.NoError(t, err)
	_, err = reader.GetDestination(t.Context(), &activationv1.GetDestinationRequest{WorkspaceId: testWorkspace, DestinationId: id})
	require.Equal(t, errs.NotFound, errs.KindOf(rpc.FromStatus(err)))
}
