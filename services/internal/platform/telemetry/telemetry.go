package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Config says what is observed and where it goes.
type Config struct {
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// OTLPEndpoint is host:port of an OTLP/gRPC collector; empty sends nothing.
	OTLPEndpoint string
	// OTLPInsecure sends without TLS.
	OTLPInsecure bool
	// SampleRatio is the share of traces that are recorded, 0 to 1; a caller's own decision wins.
	SampleRatio float64
}

// DefaultConfig logs at info and records one trace in a hundred.
func DefaultConfig() Config {
	return Config{LogLevel: "info", OTLPInsecure: true, SampleRatio: 0.01}
}

// Validate returns Invalid for a level or ratio that does not exist.
func (c Config) Validate() error {
	if _, err := parseLevel(c.LogLevel); err != nil {
		return err
	}
	if c.SampleRatio < 0 || c.SampleRatio > 1 {
		return errs.New(errs.Invalid, "bad_sample_ratio", "telemetry.sample_ratio must be between 0 and 1")
	}
	return nil
}

// Providers are a process's trace and metric pipelines.
type Providers struct {
	registry *prometheus.Registry
	shutdown []func(context.Context) error
}

// Setup installs the global OpenTelemetry providers for service (its name) at version.
func Setup(ctx context.Context, cfg Config, service, version string) (*Providers, error) {
	res := resource.NewSchemaless(
		attribute.String("service.name", service),
		attribute.String("service.version", version),
	)
	p := &Providers{registry: prometheus.NewRegistry()}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.setupTraces(ctx, cfg, res); err != nil {
		return nil, err
	}
	if err := p.setupMetrics(ctx, cfg, res); err != nil {
		return nil, err
	}
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	return p, nil
}

func (p *Providers) setupTraces(ctx context.Context, cfg Config, res *resource.Resource) error {
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))),
	}
	if cfg.OTLPEndpoint != "" {
		exporterOpts := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(cfg.OTLPEndpoint)}
		if cfg.OTLPInsecure {
			exporterOpts = append(exporterOpts, otlptracegrpc.WithInsecure())
		}
		exporter, err := otlptracegrpc.New(ctx, exporterOpts...)
		if err != nil {
			return fmt.Errorf("trace exporter: %w", err)
		}
		opts = append(opts, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	otel.SetTracerProvider(provider)
	p.shutdown = append(p.shutdown, provider.Shutdown)
	return nil
}

func (p *Providers) setupMetrics(ctx context.Context, cfg Config, res *resource.Resource) error {
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(p.registry))
	if err != nil {
		return fmt.Errorf("metrics for Prometheus: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader)}
	if cfg.OTLPEndpoint != "" {
		exporterOpts := []otlpmetricgrpc.Option{otlpmetricgrpc.WithEndpoint(cfg.OTLPEndpoint)}
		if cfg.OTLPInsecure {
			exporterOpts = append(exporterOpts, otlpmetricgrpc.WithInsecure())
		}
		exporter, err := otlpmetricgrpc.New(ctx, exporterOpts...)
		if err != nil {
			return fmt.Errorf("metric exporter: %w", err)
		}
		opts = append(opts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	}
	provider := sdkmetric.NewMeterProvider(opts...)
	otel.SetMeterProvider(provider)
	p.shutdown = append(p.shutdown, provider.Shutdown)
	return nil
}

// Handler serves /metrics for Prometheus and /debug/pprof.
func (p *Providers) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// Shutdown sends what is still buffered.
func (p *Providers) Shutdown(ctx context.Context) error {
	var all error
	for _, shutdown := range p.shutdown {
		all = errors.Join(all, shutdown(ctx))
	}
	return all
}
