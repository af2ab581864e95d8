// Package config loads a configuration: defaults in Go, then one YAML file, then the environment (MEKONG_A__B). A key
// that no struct knows is an error that names it, secrets are redacted wherever they are printed, and the difference from
// the defaults can be shown.
package config
