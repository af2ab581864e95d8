package main

import (
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/app"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/telemetry"
)

type upCmd struct {
	Demo bool `help:"Create the demo workspace, with known keys; only on loopback."`
	Port int  `help:"Port of the HTTP door (setting http.listen)." placeholder:"N"`
}

func (upCmd) Help() string { return "Example: mekong up --demo --data-dir /srv/mekong" }

func (u upCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	if u.Port != 0 {
		host, _, err := net.SplitHostPort(cfg.HTTP.Listen)
		if err != nil {
			return errs.Wrap(err, errs.Invalid, "bad_address", "http.listen must be host:port")
		}
		cfg.HTTP.Listen = net.JoinHostPort(host, fmt.Sprint(u.Port))
	}
	if u.Demo && !app.Loopback(cfg.HTTP.Listen, cfg.GRPC.Listen) {
		return errs.New(errs.Invalid, "demo_not_on_loopback",
			"--demo has well-known keys, so it runs only when http.listen and grpc.listen are loopback addresses")
	}
	return runProcess(s, cfg, app.Options{Targets: []string{app.TargetAll}, Demo: u.Demo})
}

type runCmd struct {
	Target []string `help:"Targets, separated by commas: ${targets}." required:"" placeholder:"TARGET,…"`
	Demo   bool     `help:"Create the demo workspace (with target admin); only on loopback."`
}

func (runCmd) Help() string {
	return "Example: mekong run --target=collector --config /etc/mekong.yaml"
}

func (r runCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	if r.Demo && !app.Loopback(cfg.HTTP.Listen, cfg.GRPC.Listen) {
		return errs.New(errs.Invalid, "demo_not_on_loopback",
			"--demo has well-known keys, so it runs only when http.listen and grpc.listen are loopback addresses")
	}
	return runProcess(s, cfg, app.Options{Targets: r.Target, Demo: r.Demo})
}

func runProcess(s *shell, cfg app.Config, opts app.Options) error {
	opts.Version = version
	opts.Log = telemetry.NewLogger(s.errOut, cfg.Telemetry.LogLevel)
	opts.OnReady = func(ready app.Ready) { printReady(s.out, ready) }
	process, err := app.New(s.ctx, cfg, opts)
	if err != nil {
		return err
	}
	return process.Run(s.ctx)
}

// printReady tells the person who started the system what to do next.
func printReady(out io.Writer, r app.Ready) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMekong %s is ready (%.1f s).\n\n", version, r.Took.Seconds())
	for _, line := range r.Addresses {
		fmt.Fprintf(&b, "  %-22s %s\n", line.What, line.Address)
	}
	if r.All {
		fmt.Fprintf(&b, "\n  `bin/mekong addresses --show-passwords` prints them ready for clients of the engines.\n")
	}
	if r.OwnerToken != "" {
		fmt.Fprintf(&b, "\n  API token of the owner, shown only this once: %s\n", r.OwnerToken)
	}
	if r.Demo {
		fmt.Fprintf(&b, "\n  Demo workspace: write key demo_write_key, API token demo_api_token\n")
		fmt.Fprintf(&b, "  Send an event:  curl -u demo_write_key: %s/v1/track -d '{\"event\":\"Hello\",\"anonymousId\":\"me\"}'\n", r.HTTP)
	}
	if r.All {
		fmt.Fprintf(&b, "\n  Ctrl-C stops it; the data stays in %s\n", r.DataDir)
	}
	_, _ = io.WriteString(out, b.String()+"\n")
}

type configCmd struct {
	Print configPrintCmd `cmd:"" help:"Show every setting, where it comes from a default or not."`
}

type configPrintCmd struct {
	Diff bool `help:"Only what differs from the defaults."`
}

func (configPrintCmd) Help() string { return "Example: mekong config print --diff" }

func (c configPrintCmd) Run(s *shell) error {
	lines, err := app.SettingLines(s.sources(), s.cli.DataDir)
	if err != nil {
		return err
	}
	for _, line := range lines {
		switch {
		case line.Changed:
			fmt.Fprintf(s.out, "%s = %s (default: %s)\n", line.Key, line.Value, line.Default)
		case !c.Diff:
			fmt.Fprintf(s.out, "%s = %s\n", line.Key, line.Value)
		}
	}
	return nil
}
