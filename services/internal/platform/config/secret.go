package config

import "log/slog"

// Secret is a setting that is never printed: every formatting of it shows only whether it is set.
type Secret string

const redacted = "••••••"

// Reveal returns the value, for the one place that hands it to a driver.
func (s Secret) Reveal() string { return string(s) }

// String returns a mask, or nothing when the secret is not set.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, for YAML and JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
