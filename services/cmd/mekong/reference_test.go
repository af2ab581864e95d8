package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/app"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// The pages of docs/reference are made from the code. After a change: go test ./cmd/mekong -run Reference -update
var update = flag.Bool("update", false, "rewrite docs/reference")

const generated = "<!-- Made from the code by services/cmd/mekong/reference_test.go; `go test ./cmd/mekong -run Reference -update` in services writes it. -->\n\n"

func TestReference(t *testing.T) {
	t.Parallel()
	for name, render := range map[string]func(t *testing.T) string{
		"settings.md": settingsPage, "topics.md": topicsPage, "commands.md": commandsPage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("..", "..", "..", "docs", "reference", name)
			want := render(t)
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
				return
			}
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, want, string(got), "docs/reference/%s is behind the code: run `go test ./cmd/mekong -run Reference -update` in services", name)
		})
	}
}

func topicsPage(*testing.T) string {
	var b strings.Builder
	b.WriteString(generated + "# Topics\n\nThe registry is `services/internal/stream/topics.go`; `mekong topics list` shows it, `mekong topics apply` creates what is " +
		"missing. Partition counts are fixed for the life of a topic. Retention is that of a real Kafka: the embedded one drops a record " +
		"only when every group of its last column has read it, or, without such a group, when the topic is full.\n\n" +
		"| topic | made by | message | key | partitions | kept | must have read it |\n|---|---|---|---|---|---|---|\n")
	for _, topic := range stream.Topics() {
		kept := fmt.Sprintf("%d days", int(topic.Retention.Hours()/24))
		if topic.Compact {
			kept = "newest per key"
		}
		groups := strings.Join(topic.Groups, ", ")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %d | %s | %s |\n", topic.Name, topic.Owner, topic.Message, topic.Key, topic.Partitions, kept, groups)
	}
	return b.String()
}

func commandsPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(generated + "# Commands\n\nExit codes: 0 when it did what was asked, 1 when it could not, 2 when the command line or the settings are wrong.\n\n" +
		"Every command takes `--config FILE` (YAML with settings; the environment overrides it) and `--data-dir DIR` (setting `data_dir`).\n")
	parser, err := kong.New(&cli{}, kong.Name("mekong"), kong.Vars{"targets": strings.Join(app.Targets(), ", ")})
	require.NoError(t, err)
	for _, leaf := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "\n## `mekong %s`\n\n%s\n", strings.TrimSpace(leaf.Path()), leaf.Help)
		if leaf.Detail != "" {
			fmt.Fprintf(&b, "\n%s\n", example(leaf.Detail))
		}
		var rows []string
		for _, arg := range leaf.Positional {
			rows = append(rows, fmt.Sprintf("| `<%s>` | %s | |\n", arg.Name, cell(arg.Help)))
		}
		for _, f := range leaf.Flags {
			rows = append(rows, fmt.Sprintf("| `--%s` | %s | %s |\n", f.Name, cell(f.Help), flagNote(f)))
		}
		if len(rows) > 0 {
			b.WriteString("\n| argument or flag | meaning | |\n|---|---|---|\n" + strings.Join(rows, ""))
		}
	}
	return b.String()
}

func example(detail string) string {
	return strings.Replace(detail, "Example: ", "Example: `", 1) + "`"
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func flagNote(f *kong.Flag) string {
	var notes []string
	switch {
	case f.Required:
		notes = append(notes, "required")
	case f.HasDefault:
		notes = append(notes, "default `"+f.Default+"`")
	}
	if len(f.Envs) > 0 {
		notes = append(notes, "or `"+strings.Join(f.Envs, "`, `")+"`")
	}
	return strings.Join(notes, ", ")
}

func settingsPage(t *testing.T) string {
	t.Helper()
	comments := fieldComments{t: t, parsed: map[string]map[string]string{}, found: map[string]string{}}
	comments.walk(reflect.TypeFor[app.Config](), "")
	var b strings.Builder
	b.WriteString(generated + "# Settings\n\nDefaults, then one YAML file (`--config`), then the environment. A dotted key is the path in the file; the environment " +
		"variable is `MEKONG_` and the key in capitals with `__` for each dot: `http.listen` is `MEKONG_HTTP__LISTEN`. Lists are separated by " +
		"commas in the environment. A key that does not exist is refused by name; `mekong config print --diff` shows what differs from the " +
		"defaults.\n\n| setting | default | meaning |\n|---|---|---|\n")
	defaults := app.DefaultConfig()
	for _, line := range config.Lines(defaults, defaults) {
		meaning, ok := comments.found[strings.ReplaceAll(line.Key, "_", "")]
		require.True(t, ok, "no field found for %s", line.Key)
		value := ""
		if line.Value != "" {
			value = "`" + line.Value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", line.Key, value, cell(meaning))
	}
	return b.String()
}

// fieldComments finds the comment of each field of a configuration, by its path in lower case.
type fieldComments struct {
	t *testing.T
	// parsed holds the comments of each package as "Type.Field".
	parsed map[string]map[string]string
	found  map[string]string
}

func (c *fieldComments) walk(typ reflect.Type, prefix string) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		path := prefix + strings.ToLower(field.Name)
		c.found[path] = c.comments(typ.PkgPath())[typ.Name()+"."+field.Name]
		if field.Type.Kind() == reflect.Struct {
			c.walk(field.Type, path+".")
		}
	}
}

func (c *fieldComments) comments(importPath string) map[string]string {
	if known, ok := c.parsed[importPath]; ok {
		return known
	}
	comments := map[string]string{}
	c.parsed[importPath] = comments
	dir := filepath.Join("..", "..", strings.TrimPrefix(importPath, "github.com/mekong-cdp/mekong/services"))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(c.t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(c.t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if structure, ok := spec.Type.(*ast.StructType); ok {
				structComments(spec.Name.Name, structure, comments)
			}
			return true
		})
	}
	return comments
}

// structComments takes for a field without a comment the one in its struct that speaks of it: two limits often share one.
func structComments(typeName string, structure *ast.StructType, comments map[string]string) {
	for _, field := range structure.Fields.List {
		for _, name := range field.Names {
			text := field.Doc.Text()
			for _, other := range structure.Fields.List {
				if text == "" && slices.Contains(strings.FieldsFunc(other.Doc.Text(), notLetter), name.Name) {
					text = other.Doc.Text()
				}
			}
			comments[typeName+"."+name.Name] = strings.Join(strings.Fields(text), " ")
		}
	}
}

func notLetter(r rune) bool { return !unicode.IsLetter(r) }
