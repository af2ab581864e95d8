package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Config is the address and the limits of the gRPC server.
type Config struct {
	// Listen is host:port; an empty host means every address of the machine.
	Listen string
	// ServiceToken is what the installation's own services show each other; one process makes its own when it is empty.
	ServiceToken config.Secret
	// CertFile and KeyFile turn TLS on.
	CertFile, KeyFile string
	// MaxMessageBytes bounds one message in either direction.
	MaxMessageBytes int
	// DefaultTimeout bounds calls that come without a deadline.
	DefaultTimeout time.Duration
}

// DefaultConfig listens on the contract's port on loopback.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:8081", MaxMessageBytes: 16 << 20, DefaultTimeout: 30 * time.Second}
}

// Validate returns Invalid when the settings cannot work together.
func (c Config) Validate() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errs.New(errs.Invalid, "tls_incomplete", "grpc.cert_file and grpc.key_file must be given together")
	}
	return nil
}

// memoryBuffer is the window of the in-memory listener.
const memoryBuffer = 1 << 20

// Server is the gRPC server of a process. Register services on it before its runner runs.
type Server struct {
	cfg    Config
	log    *slog.Logger
	guard  *guard
	server *grpc.Server
	health *health.Server
	memory *bufconn.Listener
}

// NewServer returns a server on which the services named in public (full proto names) answer to API tokens.
func NewServer(cfg Config, log *slog.Logger, public ...string) (*Server, error) {
	s := &Server{
		cfg: cfg, log: log, memory: bufconn.Listen(memoryBuffer), health: health.NewServer(),
		guard: &guard{serviceToken: cfg.ServiceToken, public: map[string]bool{}},
	}
	for _, name := range public {
		s.guard.public[name] = true
	}
	opts := []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(cfg.MaxMessageBytes),
	}
	if cfg.CertFile != "" {
		creds, err := credentials.NewServerTLSFromFile(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, errs.Wrap(err, errs.Invalid, "tls_unreadable", "grpc.cert_file or grpc.key_file cannot be used")
		}
		opts = append(opts, grpc.Creds(creds))
	}
	s.server = grpc.NewServer(opts...)
	healthv1.RegisterHealthServer(s.server, s.health)
	reflection.Register(s.server)
	return s, nil
}

// SetAuthenticator says who knows API tokens; call it before the runner runs.
func (s *Server) SetAuthenticator(auth Authenticator) { s.guard.auth = auth }

// RegisterService implements grpc.ServiceRegistrar.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.server.RegisterService(desc, impl)
}

// Runner serves the network and the in-memory listener; calls under way are finished when it stops.
func (s *Server) Runner() runtime.Runner {
	return runtime.Runner{Name: "grpc.server", Run: s.run}
}

func (s *Server) run(ctx context.Context, started func()) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return errs.Wrap(err, errs.Precondition, "port_taken",
			fmt.Sprintf("Cannot listen on %s for gRPC; free it or set MEKONG_GRPC__LISTEN", s.cfg.Listen))
	}
	ended := make(chan error, 2)
	serve := func(l net.Listener) {
		err := s.server.Serve(l)
		if errors.Is(err, grpc.ErrServerStopped) {
			err = nil
		}
		ended <- err
	}
	go serve(listener)
	go serve(s.memory)
	s.health.Resume()
	started()
	select {
	case err := <-ended:
		s.server.Stop()
		return errors.Join(err, <-ended)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	s.drain()
	return errors.Join(<-ended, <-ended)
}

// drainTimeout bounds how long calls under way may take once the server stops.
const drainTimeout = 5 * time.Second

func (s *Server) drain() {
	done := make(chan struct{})
	go func() {
		s.server.GracefulStop()
		close(done)
	}()
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		s.server.Stop()
		<-done
	}
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, cancel, err := s.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, ToStatus(err).Err()
	}
	defer cancel()
	resp, err := handle(ctx, req)
	if err != nil {
		s.logFailure(ctx, info.FullMethod, err)
		return nil, ToStatus(err).Err()
	}
	return resp, nil
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := s.guard.admit(withRequestID(ss.Context()), info.FullMethod)
	if err != nil {
		return ToStatus(err).Err()
	}
	if err := handle(srv, serverStream{ss, ctx}); err != nil {
		s.logFailure(ctx, info.FullMethod, err)
		return ToStatus(err).Err()
	}
	return nil
}

func (s *Server) enter(ctx context.Context, method string) (context.Context, context.CancelFunc, error) {
	ctx = withRequestID(ctx)
	ctx, err := s.guard.admit(ctx, method)
	if err != nil {
		return nil, nil, err
	}
	if _, bounded := ctx.Deadline(); bounded {
		return ctx, func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DefaultTimeout)
	return ctx, cancel, nil
}

// logFailure logs only what is our fault: callers' mistakes are answered, not logged.
func (s *Server) logFailure(ctx context.Context, method string, err error) {
	if errs.KindOf(err) == errs.Internal {
		s.log.ErrorContext(ctx, "call failed", "method", method, "request_id", RequestID(ctx), "error", err)
	}
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }

type requestIDKey struct{}

// RequestIDHeader carries the request id over HTTP and gRPC alike.
const RequestIDHeader = "x-request-id"

func withRequestID(ctx context.Context) context.Context {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if given := md.Get(RequestIDHeader); len(given) > 0 && given[0] != "" {
			return WithRequestID(ctx, given[0])
		}
	}
	return WithRequestID(ctx, ids.New())
}

// WithRequestID returns ctx with the id of the request that it serves.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the request that ctx serves; empty outside one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
