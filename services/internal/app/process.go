package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
	"github.com/mekong-cdp/mekong/services/internal/platform/telemetry"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

const (
	// startTimeout covers the recovery of an engine after a crash.
	startTimeout = 3 * time.Minute
	stopTimeout  = 45 * time.Second
)

// Options are what a command line adds to the configuration.
type Options struct {
	Targets []string
	Demo    bool
	Version string
	Log     *slog.Logger
	// OnReady is called once, when every runner is ready.
	OnReady func(Ready)
}

// Ready is what to tell the person who started the process.
type Ready struct {
	Took      time.Duration
	Addresses []Address
	HTTP      string
	// OwnerToken is set on the first start of an installation only.
	OwnerToken string
	Demo, All  bool
	DataDir    string
}

// Process is one Mekong process: the shared parts that modules are built from.
type Process struct {
	cfg      Config
	opts     Options
	log      *slog.Logger
	selected map[string]bool
	engines  engines

	telemetry  *telemetry.Providers
	grpc       *rpc.Server
	routes     *http.ServeMux
	db         *postgres.DB
	supervisor *runtime.Supervisor
	unlock     func() error
	begin      time.Time
	ownerToken string
}

// New checks the configuration, takes the data directory and creates what the targets need, without starting it.
func New(ctx context.Context, cfg Config, opts Options) (*Process, error) {
	p := &Process{cfg: cfg, opts: opts, log: opts.Log, routes: http.NewServeMux(), begin: time.Now()}
	slog.SetDefault(opts.Log)
	var err error
	if p.unlock, err = durable.LockDir(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.unlock())
	}
	return p, nil
}

func (p *Process) prepare(ctx context.Context) error {
	if err := checkDataVersion(p.cfg.DataDir); err != nil {
		return err
	}
	if err := checkTargets(p.opts.Targets); err != nil {
		return err
	}
	targets := expand(p.opts.Targets, p.cfg)
	// The first ordering only finds out what is selected; the second one is of modules that know it.
	modules, err := runtime.Order(p.table(), targets)
	if err != nil {
		return err
	}
	p.selected = map[string]bool{}
	for _, m := range modules {
		p.selected[m.Name] = true
	}
	if err := p.checkSettings(); err != nil {
		return err
	}
	if err := p.ensureServiceToken(); err != nil {
		return err
	}
	if p.engines, err = newEngines(&p.cfg, p.selected, p.log); err != nil {
		return err
	}
	if err := checkDoors(ctx, p.cfg); err != nil {
		return err
	}
	if p.telemetry, err = telemetry.Setup(ctx, p.cfg.Telemetry, "mekong", p.opts.Version); err != nil {
		return err
	}
	if p.grpc, err = rpc.NewServer(p.cfg.GRPC, p.log, publicServices()...); err != nil {
		return err
	}
	p.supervisor = runtime.NewSupervisor(modules, runtime.Options{StartTimeout: startTimeout, StopTimeout: stopTimeout, Log: p.log})
	return nil
}

// checkSettings refuses settings of the selected contexts before anything is started; those of other contexts do not
// matter here.
func (p *Process) checkSettings() error {
	for name, section := range map[string]interface{ Validate() error }{
		moduleAdmin: p.cfg.Admin, moduleActivation: p.cfg.Activation, moduleCollector: p.cfg.Collector,
		moduleIdentity: p.cfg.Identity, moduleWarehouse: p.cfg.Warehouse,
	} {
		if p.selected[name] {
			if err := section.Validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensureServiceToken gives a process that is the whole installation a token of its own. Services of a cluster must be
// given one, or they could not know each other.
func (p *Process) ensureServiceToken() error {
	if p.cfg.GRPC.ServiceToken != "" {
		return nil
	}
	if slices.Contains(p.opts.Targets, TargetAll) || onlyEngines(p.opts.Targets) {
		token, err := randomToken()
		p.cfg.GRPC.ServiceToken = config.Secret(token)
		return err
	}
	return errs.New(errs.Invalid, "service_token_missing",
		"Services of a cluster need one secret in common: set MEKONG_GRPC__SERVICE_TOKEN to the same random value for all")
}

// Run starts everything, waits until ctx is done or a part fails, and stops everything.
func (p *Process) Run(ctx context.Context) error {
	announced := make(chan struct{})
	watch, cancel := context.WithCancel(ctx)
	go func() {
		defer close(announced)
		p.announce(watch)
	}()
	err := p.supervisor.Run(ctx)
	cancel()
	<-announced
	stop, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancelStop()
	return errors.Join(err, p.telemetry.Shutdown(stop), p.unlock())
}

// announceInterval is how often readiness is looked at before the first time that it holds.
const announceInterval = 50 * time.Millisecond

func (p *Process) announce(ctx context.Context) {
	tick := time.NewTicker(announceInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if slices.ContainsFunc(p.supervisor.Ready(ctx), func(c runtime.Check) bool { return c.Err != nil }) {
			continue
		}
		p.log.InfoContext(ctx, "ready", "took_ms", time.Since(p.begin).Milliseconds())
		if p.opts.OnReady != nil {
			p.opts.OnReady(Ready{
				Took: time.Since(p.begin), Addresses: p.addresses(), HTTP: httpURL(p.cfg.HTTP), OwnerToken: p.ownerToken,
				Demo: p.opts.Demo && p.selected[moduleAdmin], All: slices.Contains(p.opts.Targets, TargetAll), DataDir: p.cfg.DataDir,
			})
		}
		return
	}
}

// connection returns how this process reaches the service of a module: in memory when it runs here, else at address.
func (p *Process) connection(module, address string) (*grpc.ClientConn, error) {
	if p.selected[module] {
		return p.grpc.DialMemory(p.cfg.GRPC.ServiceToken)
	}
	if address == "" {
		return nil, peerMissing(module)
	}
	return rpc.Dial(address, p.cfg.GRPC, p.cfg.Peers.TLS, p.cfg.GRPC.ServiceToken)
}

// authenticator asks admin whom a token belongs to.
type authenticator struct{ admin adminv1.AdminServiceClient }

func (a authenticator) Authenticate(ctx context.Context, token string) (tenant.Principal, error) {
	resp, err := a.admin.AuthenticateToken(ctx, &adminv1.AuthenticateTokenRequest{Token: token})
	if err != nil {
		return tenant.Principal{}, err
	}
	return tenant.Principal{
		TokenID: resp.GetTokenId(), OrganisationID: resp.GetOrganisationId(), WorkspaceIDs: resp.GetWorkspaceIds(),
		Scopes: resp.GetScopes(), WholeOrganisation: resp.GetWorkspaceId() == "",
	}, nil
}
