package rpc

import (
	"context"
	"crypto/subtle"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// Authenticator tells whom an API token belongs to; Unauthenticated when to no one.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (tenant.Principal, error)
}

// guard decides who may call what.
type guard struct {
	serviceToken config.Secret
	// public services answer to API tokens; all others only to the service token.
	public map[string]bool
	auth   Authenticator
	cache  tokenCache
}

// open services answer without a token.
func open(service string) bool {
	return service == "grpc.health.v1.Health" || strings.HasPrefix(service, "grpc.reflection.")
}

func (g *guard) admit(ctx context.Context, fullMethod string) (context.Context, error) {
	service, _, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	if open(service) {
		return ctx, nil
	}
	token := bearer(ctx)
	if token == "" {
		return nil, tenant.ErrUnauthenticated()
	}
	if secret := g.serviceToken.Reveal(); secret != "" && subtle.ConstantTimeCompare([]byte(token), []byte(secret)) == 1 {
		return tenant.With(ctx, tenant.Principal{Service: true}), nil
	}
	if !g.public[service] || g.auth == nil {
		return nil, errs.New(errs.Forbidden, "internal_service", "Only the installation's own services may call this.")
	}
	p, err := g.cache.get(ctx, token, g.auth)
	if err != nil {
		return nil, err
	}
	return tenant.With(ctx, p), nil
}

func bearer(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "bearer") {
			return strings.TrimSpace(token)
		}
	}
	return ""
}

const (
	// tokenTTL bounds how long a revoked token still works.
	tokenTTL = 5 * time.Second
	// maxTokens bounds the cache; beyond it everything is forgotten, which costs one lookup per live token.
	maxTokens = 10_000
)

// tokenCache remembers answers, refusals included, so that a storm of calls costs one lookup per token and TTL.
type tokenCache struct {
	mu      sync.Mutex
	entries map[string]tokenEntry
}

type tokenEntry struct {
	principal tenant.Principal
	err       error
	until     time.Time
}

func (c *tokenCache) get(ctx context.Context, token string, auth Authenticator) (tenant.Principal, error) {
	now := time.Now()
	c.mu.Lock()
	entry, ok := c.entries[token]
	c.mu.Unlock()
	if ok && now.Before(entry.until) {
		// What is remembered may lack a workspace that was made since.
		return entry.principal.WithRefresh(func(ctx context.Context) (tenant.Principal, error) {
			return c.ask(ctx, token, auth)
		}), entry.err
	}
	return c.ask(ctx, token, auth)
}

// ask looks the token up and remembers the answer.
func (c *tokenCache) ask(ctx context.Context, token string, auth Authenticator) (tenant.Principal, error) {
	p, err := auth.Authenticate(ctx, token)
	if err != nil && errs.KindOf(err) != errs.Unauthenticated {
		return tenant.Principal{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxTokens {
		c.entries = map[string]tokenEntry{}
	}
	c.entries[token] = tokenEntry{principal: p, err: err, until: time.Now().Add(tokenTTL)}
	return p, err
}

// serviceCredentials puts the service token on every call of a connection between our own services, unless the call
// already carries a caller's token.
type serviceCredentials struct {
	token config.Secret
}

func (s serviceCredentials) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return FromStatus(invoke(s.outgoing(ctx), method, req, reply, cc, opts...))
}

func (s serviceCredentials) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := streamer(s.outgoing(ctx), desc, cc, method, opts...)
	if err != nil {
		return nil, FromStatus(err)
	}
	return mappedStream{stream}, nil
}

func (s serviceCredentials) outgoing(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	if len(md.Get("authorization")) > 0 || s.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token.Reveal())
}

// mappedStream gives the errors of a stream their kinds back; io.EOF passes as it is.
type mappedStream struct{ grpc.ClientStream }

func (m mappedStream) RecvMsg(msg any) error { return FromStatus(m.ClientStream.RecvMsg(msg)) }
