package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

const serviceToken = "service-secret"

type admin struct {
	adminv1.UnimplementedAdminServiceServer
	seen chan tenant.Principal
}

func (a admin) ListWorkspaces(ctx context.Context, _ *adminv1.ListWorkspacesRequest) (*adminv1.ListWorkspacesResponse, error) {
	p, _ := tenant.From(ctx)
	a.seen <- p
	if _, bounded := ctx.Deadline(); !bounded || rpc.RequestID(ctx) == "" {
		return nil, errs.New(errs.Internal, "no_deadline_or_id", "")
	}
	return nil, errs.New(errs.RateLimited, "slow_down", "Slow down.").WithRetryAfter(2 * time.Second)
}

type identity struct {
	identityv1.UnimplementedIdentityServiceServer
}

func (identity) LookupEvents(context.Context, *identityv1.LookupEventsRequest) (*identityv1.LookupEventsResponse, error) {
	return &identityv1.LookupEventsResponse{Seen: []bool{true}}, nil
}

type tokens map[string]tenant.Principal

func (k tokens) Authenticate(_ context.Context, token string) (tenant.Principal, error) {
	if p, ok := k[token]; ok {
		return p, nil
	}
	return tenant.Principal{}, tenant.ErrUnauthenticated()
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

func setup(t *testing.T) (*rpc.Server, rpc.Config, chan tenant.Principal) {
	t.Helper()
	cfg := rpc.DefaultConfig()
	cfg.Listen, cfg.ServiceToken = freePort(t), serviceToken
	s, err := rpc.NewServer(cfg, slog.New(slog.DiscardHandler), "mekong.admin.v1.AdminService")
	require.NoError(t, err)
	s.SetAuthenticator(tokens{"mk_ann": {TokenID: "ann"}})
	seen := make(chan tenant.Principal, 1)
	adminv1.RegisterAdminServiceServer(s, admin{seen: seen})
	identityv1.RegisterIdentityServiceServer(s, identity{})

	ctx, cancel := context.WithCancel(t.Context())
	started, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Runner().Run(ctx, func() { close(started) }) }()
	<-started
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s, cfg, seen
}

func connect(t *testing.T, conn *grpc.ClientConn, err error) *grpc.ClientConn {
	t.Helper()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func TestErrorsKeepTheirMeaningOnBothWays(t *testing.T) {
	t.Parallel()
	s, cfg, seen := setup(t)
	memory, err := s.DialMemory(serviceToken)
	network, nErr := rpc.Dial(cfg.Listen, cfg, false, serviceToken)
	for name, conn := range map[string]*grpc.ClientConn{
		"in memory": connect(t, memory, err), "over the network": connect(t, network, nErr),
	} {
		_, err := adminv1.NewAdminServiceClient(conn).ListWorkspaces(t.Context(), &adminv1.ListWorkspacesRequest{})
		require.Equal(t, errs.RateLimited, errs.KindOf(err), name)
		require.Equal(t, "slow_down", errs.CodeOf(err), name)
		require.Equal(t, "Slow down.", errs.MessageOf(err), name)
		require.Equal(t, 2*time.Second, errs.RetryAfterOf(err), name)
		require.True(t, (<-seen).Service)
	}
}

func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	s, cfg, seen := setup(t)
	c, err := rpc.Dial(cfg.Listen, cfg, false, "")
	conn := connect(t, c, err)
	passedOn, err := s.DialMemory(config.Secret(""))
	gateway := connect(t, passedOn, err)
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
	list := func(ctx context.Context, c *grpc.ClientConn) string {
		_, err := adminv1.NewAdminServiceClient(c).ListWorkspaces(ctx, &adminv1.ListWorkspacesRequest{})
		return errs.CodeOf(err)
	}
	lookup := func(ctx context.Context) error {
		_, err := identityv1.NewIdentityServiceClient(conn).LookupEvents(ctx, &identityv1.LookupEventsRequest{})
		return err
	}

	require.Equal(t, "unauthenticated", list(t.Context(), conn), "no token")
	require.Equal(t, "unauthenticated", list(t.Context(), gateway), "a gateway's own connection gives nobody rights")
	require.Equal(t, "unauthenticated", list(as("mk_stranger"), conn))
	require.Equal(t, "slow_down", list(as("mk_ann"), conn), "a known token reaches the handler")
	require.Equal(t, "ann", (<-seen).TokenID)
	require.Equal(t, "internal_service", errs.CodeOf(lookup(as("mk_ann"))), "internal services are closed to API tokens")
	require.NoError(t, lookup(as(serviceToken)))

	resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, resp.GetStatus())
}

func TestEveryKindHasItsCode(t *testing.T) {
	t.Parallel()
	for kind, code := range map[errs.Kind]codes.Code{
		errs.Invalid: codes.InvalidArgument, errs.Unauthenticated: codes.Unauthenticated, errs.Forbidden: codes.PermissionDenied,
		errs.NotFound: codes.NotFound, errs.Conflict: codes.AlreadyExists, errs.Precondition: codes.FailedPrecondition,
		errs.RateLimited: codes.ResourceExhausted, errs.Unavailable: codes.Unavailable, errs.Internal: codes.Internal,
	} {
		s := rpc.ToStatus(errs.New(kind, "c", "m"))
		require.Equal(t, code, s.Code())
		require.Equal(t, kind, errs.KindOf(rpc.FromStatus(s.Err())))
	}
	require.NoError(t, rpc.FromStatus(nil))
	require.NotContains(t, rpc.ToStatus(context.Canceled).Message(), "context")
	require.Equal(t, codes.Canceled, status.Code(rpc.ToStatus(context.Canceled).Err()))
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	_, cfg, _ := setup(t)
	second, err := rpc.NewServer(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	err = second.Runner().Run(t.Context(), func() {})
	require.Equal(t, "port_taken", errs.CodeOf(err))
	require.ErrorContains(t, err, "MEKONG_GRPC__LISTEN")
}
