package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/crypto/acme/autocert"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// Config is the address, TLS and limits of one HTTP server.
type Config struct {
	// Listen is host:port; an empty host means every address of the machine.
	Listen string
	// CertFile and KeyFile turn TLS on.
	CertFile, KeyFile string
	// ACMEHosts turns TLS on by certificates that are fetched and renewed by themselves; the names must lead here on
	// port 443. ACMECache is where they are kept.
	ACMEHosts []string
	ACMECache string
	// MaxHeaderBytes, ReadHeaderTimeout, IdleTimeout keep slow or greedy clients from holding connections.
	MaxHeaderBytes    int
	ReadHeaderTimeout time.Duration
	// ReadTimeout bounds the time that a request with its body may take to arrive.
	ReadTimeout time.Duration
	IdleTimeout time.Duration
	// DrainDelay is how long the server still accepts after readiness has gone; DrainTimeout is how long requests under
	// way may take after that.
	DrainDelay   time.Duration
	DrainTimeout time.Duration
}

// DefaultConfig listens on the contract's port on loopback, without TLS.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8080", MaxHeaderBytes: 64 << 10, ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, DrainTimeout: 10 * time.Second,
	}
}

// Validate returns Invalid when the settings cannot work together.
func (c Config) Validate() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errs.New(errs.Invalid, "tls_incomplete", "http.cert_file and http.key_file must be given together")
	}
	if c.CertFile != "" && len(c.ACMEHosts) > 0 {
		return errs.New(errs.Invalid, "tls_twice", "Give http.cert_file or http.acme_hosts, not both")
	}
	return nil
}

// Server serves one handler.
type Server struct {
	name    string
	setting string
	cfg     Config
	log     *slog.Logger
	drain   func()
	server  *http.Server
}

// New returns a server named name ("http", "metrics") whose address is the setting `<setting>` in messages. drain, which
// may be nil, is called when stopping begins.
func New(name, setting string, cfg Config, log *slog.Logger, handler http.Handler, drain func()) *Server {
	return &Server{
		name: name, setting: setting, cfg: cfg, log: log, drain: drain,
		server: &http.Server{
			Handler: withRequestID(handler), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
			MaxHeaderBytes: cfg.MaxHeaderBytes, ReadHeaderTimeout: cfg.ReadHeaderTimeout,
			ReadTimeout: cfg.ReadTimeout, IdleTimeout: cfg.IdleTimeout,
		},
	}
}

// Traced returns handler with a span and metrics per request, named by the pattern that matched.
func Traced(handler http.Handler) http.Handler {
	return otelhttp.NewHandler(handler, "http", otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
		if r.Pattern != "" {
			return r.Pattern
		}
		return r.Method
	}))
}

// TracedLightly returns handler with a span per request and nothing else, for doors that count for themselves and take
// so many requests that Traced would be a fifth of their work.
func TracedLightly(handler http.Handler) http.Handler {
	tracer, propagator := otel.Tracer("mekong/http"), otel.GetTextMapPropagator()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if r.Header.Get("Traceparent") != "" {
			ctx = propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
		}
		ctx, span := tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		handler.ServeHTTP(w, r.WithContext(ctx))
	})
}

// maxRequestID bounds an id that a client brings.
const maxRequestID = 64

func withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(rpc.RequestIDHeader)
		if id == "" || len(id) > maxRequestID {
			id = ids.New()
		}
		r.Header.Set(rpc.RequestIDHeader, id)
		w.Header().Set(rpc.RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(rpc.WithRequestID(r.Context(), id)))
	})
}

// Runner serves until stopped, then drains.
func (s *Server) Runner() runtime.Runner {
	return runtime.Runner{Name: s.name + ".server", Run: s.run}
}

func (s *Server) run(ctx context.Context, started func()) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return errs.Wrap(err, errs.Precondition, "port_taken",
			fmt.Sprintf("Cannot listen on %s for %s; free it or set %s", s.cfg.Listen, s.name, s.setting))
	}
	ended := make(chan error, 1)
	go func() { ended <- s.serve(listener) }()
	started()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	return s.stop(context.WithoutCancel(ctx), ended)
}

func (s *Server) serve(listener net.Listener) error {
	switch {
	case s.cfg.CertFile != "":
		return s.server.ServeTLS(listener, s.cfg.CertFile, s.cfg.KeyFile)
	case len(s.cfg.ACMEHosts) > 0:
		manager := &autocert.Manager{
			Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(s.cfg.ACMEHosts...), Cache: autocert.DirCache(s.cfg.ACMECache),
		}
		s.server.TLSConfig = manager.TLSConfig()
		return s.server.ServeTLS(listener, "", "")
	default:
		return s.server.Serve(listener)
	}
}

func (s *Server) stop(ctx context.Context, ended <-chan error) error {
	if s.drain != nil {
		s.drain()
	}
	if s.cfg.DrainDelay > 0 {
		delay := time.NewTimer(s.cfg.DrainDelay)
		<-delay.C
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// Streams that never end by themselves (live views) are cut; their clients connect again.
		err = s.server.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
