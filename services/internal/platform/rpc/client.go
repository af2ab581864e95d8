package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
)

// DialMemory returns a connection to this server within its process. Calls without a token of their own carry token: the
// service token for our own calls, nothing for calls passed on for others.
func (s *Server) DialMemory(token config.Secret) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if s.cfg.CertFile != "" {
		// The in-memory pipe cannot be listened to; the certificate names the public address, not this pipe.
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	}
	return dial("passthrough:///memory", s.cfg, creds, token,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.memory.DialContext(ctx) }))
}

// Dial returns a connection to the service at address (host:port, or dns:///name:port for all addresses of a name).
// It connects when first used. secure uses TLS with the system's roots.
func Dial(address string, cfg Config, secure bool, token config.Secret) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	return dial(address, cfg, creds, token)
}

func dial(target string, cfg Config, creds credentials.TransportCredentials, token config.Secret, extra ...grpc.DialOption,
) (*grpc.ClientConn, error) {
	service := serviceCredentials{token: token}
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithChainUnaryInterceptor(service.unary),
		grpc.WithChainStreamInterceptor(service.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(cfg.MaxMessageBytes)),
	}, extra...)
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return conn, nil
}
