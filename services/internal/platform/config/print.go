package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

const tagName = "koanf"

// Flatten returns every setting of cfg (a struct or a pointer to one) by its dotted key. Fields tagged `koanf:"-"` and
// fields that are not data (functions, interfaces, channels) are not settings.
func Flatten(cfg any) map[string]any {
	flat := map[string]any{}
	walk(reflect.Indirect(reflect.ValueOf(cfg)), "", flat)
	return flat
}

func walk(v reflect.Value, prefix string, flat map[string]any) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name := field.Tag.Get(tagName)
		if !field.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = snake(field.Name)
		}
		value := v.Field(i)
		switch value.Kind() {
		case reflect.Func, reflect.Interface, reflect.Chan, reflect.UnsafePointer:
		case reflect.Struct:
			walk(value, prefix+name+dot, flat)
		default:
			flat[prefix+name] = value.Interface()
		}
	}
}

// Line is one setting as `mekong config print` shows it.
type Line struct {
	Key, Value string
	// Default is set only where it differs.
	Default string
	Changed bool
}

// Lines returns all settings of cfg in order, each compared with defaults.
func Lines(cfg, defaults any) []Line {
	now, before := Flatten(cfg), Flatten(defaults)
	lines := make([]Line, 0, len(now))
	for _, key := range slices.Sorted(maps.Keys(now)) {
		line := Line{Key: key, Value: format(now[key])}
		if !reflect.DeepEqual(now[key], before[key]) {
			line.Changed = true
			line.Default = format(before[key])
		}
		lines = append(lines, line)
	}
	return lines
}

func format(value any) string {
	switch v := value.(type) {
	case Secret:
		return v.String()
	case time.Duration:
		return v.String()
	case string:
		return v
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = format(v.Index(i).Interface())
		}
		return strings.Join(parts, ",")
	case reflect.Map:
		// Values of maps may be credentials: only the names are shown.
		names := make([]string, 0, v.Len())
		for _, name := range v.MapKeys() {
			names = append(names, fmt.Sprint(name.Interface()))
		}
		slices.Sort(names)
		return "{" + strings.Join(names, ",") + "}"
	default:
		return fmt.Sprint(value)
	}
}

// snake turns a Go field name into its key: SASLUser becomes sasl_user.
func snake(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			afterLower := !unicode.IsUpper(runes[i-1])
			beforeLower := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if afterLower || beforeLower {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
