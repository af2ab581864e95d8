// Package telemetry sets up logs, traces and metrics for a process: slog as JSON with trace ids, OpenTelemetry traces
// sent by OTLP, metrics served to Prometheus and, when an endpoint is given, pushed by OTLP too.
//
// Non-obvious: without an OTLP endpoint spans are still made (never exported), so that trace ids stand in logs and
// travel in Kafka headers in every installation alike.
package telemetry
