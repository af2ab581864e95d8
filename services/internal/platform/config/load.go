package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	envPrefix = "MEKONG_"
	envNest   = "__"
	dot       = "."
)

// Sources says where settings come from besides the defaults.
type Sources struct {
	// File is a YAML file; empty for none.
	File string
	// Environ is os.Environ(): only names with the prefix MEKONG_ count.
	Environ []string
}

// Load fills target, a pointer to a struct that holds the defaults, from the sources. Keys are the field names in
// snake_case joined by dots. It returns Invalid naming the first unknown key or the value that does not fit.
func Load(target any, src Sources) error {
	known := Flatten(target)
	k := koanf.New(dot)
	if src.File != "" {
		if err := k.Load(file.Provider(src.File), yaml.Parser()); err != nil {
			return fileError(err, src.File)
		}
	}
	if unknown := unknownKeys(k.Keys(), known); len(unknown) > 0 {
		return errs.New(errs.Invalid, "unknown_setting",
			fmt.Sprintf("%s: there is no setting %s; `mekong config print` lists all", src.File, strings.Join(unknown, ", ")))
	}
	env := fromEnviron(src.Environ)
	for _, key := range slices.Sorted(maps.Keys(env)) {
		if len(unknownKeys([]string{key}, known)) > 0 {
			return errs.New(errs.Invalid, "unknown_setting",
				fmt.Sprintf("There is no setting %s (from %s); `mekong config print` lists all", key, EnvName(key)))
		}
	}
	if err := k.Load(confmap.Provider(env, dot), nil); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	return decode(k.Raw(), target)
}

func fileError(err error, path string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.Wrap(err, errs.Invalid, "config_missing", fmt.Sprintf("There is no configuration file %s", path))
	case errors.Is(err, os.ErrPermission):
		return errs.Wrap(err, errs.Invalid, "config_unreadable", fmt.Sprintf("This user may not read %s", path))
	default:
		return errs.Wrap(err, errs.Invalid, "config_not_yaml", path+" is not valid YAML")
	}
}

func fromEnviron(environ []string) map[string]any {
	env := map[string]any{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		// MEKONG_TEST_… belongs to test harnesses, MEKONG_URL to the command's own client side.
		if !ours || strings.HasPrefix(rest, "TEST_") || rest == "URL" || rest == "TOKEN" {
			continue
		}
		env[strings.ToLower(strings.ReplaceAll(rest, envNest, dot))] = value
	}
	return env
}

// EnvName returns the environment variable that overrides key.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, dot, envNest))
}

// unknownKeys returns the keys that are neither settings nor entries of a setting that is itself a map.
func unknownKeys(keys []string, known map[string]any) []string {
	var unknown []string
	for _, key := range keys {
		if _, ok := known[key]; ok || underMap(key, known) {
			continue
		}
		unknown = append(unknown, key)
	}
	slices.Sort(unknown)
	return unknown
}

func underMap(key string, known map[string]any) bool {
	for {
		i := strings.LastIndex(key, dot)
		if i < 0 {
			return false
		}
		key = key[:i]
		if _, ok := known[key]; ok {
			return true
		}
	}
}

func decode(raw map[string]any, target any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:           target,
		TagName:          tagName,
		WeaklyTypedInput: true,
		ErrorUnused:      true,
		MatchName:        func(key, field string) bool { return key == field || key == snake(field) },
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
		),
	})
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := d.Decode(raw); err != nil {
		return valueError(err)
	}
	return nil
}

// valueError names the first setting that does not fit. The value itself is left out: it may be a secret.
func valueError(err error) error {
	var wrong *mapstructure.DecodeError
	if !errors.As(err, &wrong) {
		return errs.Wrap(err, errs.Invalid, "setting_does_not_fit", "A setting has a value that does not fit")
	}
	parts := strings.Split(wrong.Name(), dot)
	for i, part := range parts {
		parts[i] = snake(part)
	}
	key := strings.Join(parts, dot)
	return errs.Wrap(wrong.Unwrap(), errs.Invalid, "setting_does_not_fit",
		fmt.Sprintf("The setting %s (%s) has a value that does not fit", key, EnvName(key)))
}
