package app

import (
	"context"
	"fmt"
	"net"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// port is an address that a process of this configuration takes, and the setting that moves it.
type port struct{ what, address, setting string }

// doorPorts are taken by every process.
func doorPorts(cfg Config) []port {
	return []port{
		{"HTTP", cfg.HTTP.Listen, "MEKONG_HTTP__LISTEN"},
		{"gRPC", cfg.GRPC.Listen, "MEKONG_GRPC__LISTEN"},
		{"metrics", cfg.Metrics.Listen, "MEKONG_METRICS__LISTEN"},
	}
}

// enginePorts are taken by the engines that have no address of their own elsewhere.
func enginePorts(cfg Config) []port {
	var ports []port
	if len(cfg.Kafka.Brokers) == 0 {
		ports = append(ports, port{"Kafka", cfg.Embedded.Kafka.Listen, "MEKONG_EMBEDDED__KAFKA__LISTEN"})
	}
	if cfg.Postgres.URL == "" {
		ports = append(ports, port{"Postgres", cfg.Embedded.Postgres.Listen, "MEKONG_EMBEDDED__POSTGRES__LISTEN"})
	}
	if cfg.ClickHouse.URL == "" {
		ports = append(ports, port{"ClickHouse", cfg.Embedded.ClickHouse.Listen, "MEKONG_EMBEDDED__CLICKHOUSE__LISTEN"})
	}
	return ports
}

// check returns why the port cannot be taken now.
func (p port) check(ctx context.Context) error {
	if _, _, err := net.SplitHostPort(p.address); err != nil {
		return errs.Wrap(err, errs.Invalid, "bad_address", fmt.Sprintf("%s must be host:port, for example 127.0.0.1:8080", p.setting))
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.address)
	if err != nil {
		return errs.Wrap(err, errs.Precondition, "port_taken",
			fmt.Sprintf("Cannot listen on %s for %s: stop what listens there, or set %s to another address", p.address, p.what, p.setting))
	}
	return l.Close()
}

// checkDoors finds a taken port of the doors before the engines are started, which takes seconds and would be in vain.
// Those of the engines are not looked at here: what is left of a killed process may hold them for a moment, and each
// engine knows how to end that.
func checkDoors(ctx context.Context, cfg Config) error {
	for _, p := range doorPorts(cfg) {
		if err := p.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkPorts is the doctor's look at all ports of a stopped system.
func checkPorts(ctx context.Context, cfg Config) []Finding {
	ports := append(doorPorts(cfg), enginePorts(cfg)...)
	findings := make([]Finding, 0, len(ports))
	for _, p := range ports {
		f := Finding{What: "port of " + p.what, Detail: p.address + " is free"}
		if f.Err = p.check(ctx); f.Err != nil {
			f.Detail = p.address
		}
		findings = append(findings, f)
	}
	return findings
}
