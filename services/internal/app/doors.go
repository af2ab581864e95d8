package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	gwruntime "github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/proto/gen/openapi"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/httpserver"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/web"
)

// publicServices are the gRPC services that answer to API tokens; all others answer to our own services only.
func publicServices() []string {
	return []string{
		adminv1.AdminService_ServiceDesc.ServiceName,
		activationv1.DestinationService_ServiceDesc.ServiceName,
	}
}

// buildAPI serves REST (translated to gRPC), its documentation and the pages.
func (p *Process) buildAPI(ctx context.Context) (runtime.Parts, error) {
	gateway := gwruntime.NewServeMux(
		gwruntime.WithErrorHandler(gatewayError),
		gwruntime.WithRoutingErrorHandler(gatewayRoutingError),
		gwruntime.WithIncomingHeaderMatcher(gatewayHeader),
	)
	var conns []*grpc.ClientConn
	closeAll := func(context.Context) error {
		var all error
		for _, conn := range conns {
			all = errors.Join(all, conn.Close())
		}
		return all
	}
	for _, service := range []struct {
		module, address string
		register        func(context.Context, *gwruntime.ServeMux, *grpc.ClientConn) error
	}{
		{moduleAdmin, p.cfg.Peers.Admin, adminv1.RegisterAdminServiceHandler},
		{moduleActivation, p.cfg.Peers.Activation, activationv1.RegisterDestinationServiceHandler},
	} {
		conn, err := p.passThrough(service.module, service.address)
		if err != nil {
			return runtime.Parts{}, errors.Join(err, closeAll(ctx))
		}
		conns = append(conns, conn)
		if err := service.register(ctx, gateway, conn); err != nil {
			return runtime.Parts{}, errors.Join(err, closeAll(ctx))
		}
	}
	pages, err := web.Handler()
	if err != nil {
		return runtime.Parts{}, errors.Join(err, closeAll(ctx))
	}
	p.routes.Handle("/api/v1/", gateway)
	p.routes.HandleFunc("GET /api/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(openapi.Document())
	})
	p.routes.Handle("/", pages)
	return runtime.Parts{Close: closeAll}, nil
}

// passThrough is a connection that carries the caller's token and none of ours, so that REST lends rights to nobody.
func (p *Process) passThrough(module, address string) (*grpc.ClientConn, error) {
	if p.selected[module] {
		return p.grpc.DialMemory("")
	}
	if address == "" {
		return nil, peerMissing(module)
	}
	return rpc.Dial(address, p.cfg.GRPC, p.cfg.Peers.TLS, "")
}

// gatewayHeader lets the caller's request id through besides what the gateway passes on itself.
func gatewayHeader(name string) (string, bool) {
	if strings.EqualFold(name, rpc.RequestIDHeader) {
		return rpc.RequestIDHeader, true
	}
	return "", false
}

func gatewayError(_ context.Context, _ *gwruntime.ServeMux, _ gwruntime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	httpserver.WriteError(w, r, rpc.FromStatus(err))
}

func gatewayRoutingError(
	_ context.Context, _ *gwruntime.ServeMux, _ gwruntime.Marshaler, w http.ResponseWriter, r *http.Request, status int,
) {
	code := strings.ToLower(strings.ReplaceAll(http.StatusText(status), " ", "_"))
	httpserver.WriteErrorStatus(w, r, status, errs.New(errs.NotFound, code, "There is no such address; /api/docs lists all."))
}

// buildDoors opens the listeners. It comes last, when everything has registered what it serves.
func (p *Process) buildDoors(context.Context) (runtime.Parts, error) {
	closeDoors := func(context.Context) error { return nil }
	if p.selected[moduleAdmin] || p.selected[moduleActivation] {
		conn, err := p.connection(moduleAdmin, p.cfg.Peers.Admin)
		if err != nil {
			return runtime.Parts{}, err
		}
		p.grpc.SetAuthenticator(authenticator{adminv1.NewAdminServiceClient(conn)})
		closeDoors = func(context.Context) error { return conn.Close() }
	}
	ready := httpserver.Readyz(p.readyInfo(), func(r *http.Request) []runtime.Check { return p.supervisor.Ready(r.Context()) })
	p.routes.HandleFunc("GET /healthz", httpserver.Healthz)
	p.routes.HandleFunc("GET /readyz", ready)
	metrics := http.NewServeMux()
	metrics.Handle("/", p.telemetry.Handler())
	metrics.HandleFunc("GET /healthz", httpserver.Healthz)
	metrics.HandleFunc("GET /readyz", ready)
	return runtime.Parts{Close: closeDoors, Runners: []runtime.Runner{
		httpserver.New("metrics", "MEKONG_METRICS__LISTEN", p.cfg.Metrics, p.log, metrics, nil).Runner(),
		p.grpc.Runner(),
		httpserver.New("http", "MEKONG_HTTP__LISTEN", p.cfg.HTTP, p.log, p.traced(), p.supervisor.Drain).Runner(),
	}}, nil
}

// ingestion is where events come in.
const ingestion = "/v1/"

// traced serves the routes with spans; the door for events counts its requests itself.
func (p *Process) traced() http.Handler {
	full, light := httpserver.Traced(p.routes), httpserver.TracedLightly(p.routes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, ingestion) {
			light.ServeHTTP(w, r)
			return
		}
		full.ServeHTTP(w, r)
	})
}

// readyInfo tells addresses only where nobody but this machine can ask for them.
func (p *Process) readyInfo() httpserver.ReadyInfo {
	info := httpserver.ReadyInfo{Version: p.opts.Version}
	if !Loopback(p.cfg.HTTP.Listen) {
		return info
	}
	for _, a := range p.addresses() {
		info.Addresses = append(info.Addresses, httpserver.Address{Name: a.What, Address: a.Address})
	}
	return info
}

// Loopback reports whether all addresses (host:port) can be reached from this machine only.
func Loopback(addresses ...string) bool {
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		ip := net.ParseIP(host)
		if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

func httpURL(cfg httpserver.Config) string {
	scheme := "http"
	if cfg.CertFile != "" || len(cfg.ACMEHosts) > 0 {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return scheme + "://" + cfg.Listen
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
