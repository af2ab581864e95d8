package arch_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The checks themselves: each must complain about what it forbids, and be silent about the allowed neighbour.

func TestCheckImports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from     string
		imports  []string
		tests    []string
		complain string
	}{
		"cmd uses app":                      {from: "cmd/mekong", imports: []string{"internal/app"}},
		"cmd reaches into a context":        {from: "cmd/mekong", imports: []string{"identity"}, complain: "app wires"},
		"app uses contexts and engines":     {from: "internal/app", imports: []string{"identity", "internal/embedded/kafka", "internal/web"}},
		"a context uses platform":           {from: "identity", imports: []string{"internal/platform/errs", "internal/stream", "identity/graph"}},
		"a context imports another":         {from: "identity", imports: []string{"warehouse"}, complain: "contexts meet in proto/gen"},
		"a context imports another's child": {from: "crm/ticket", imports: []string{"identity/graph"}, complain: "contexts meet in proto/gen"},
		"a context imports app":             {from: "identity", imports: []string{"internal/app"}, complain: "contexts meet in proto/gen"},
		"a context imports an engine":       {from: "identity", imports: []string{"internal/embedded/kafka"}, complain: "contexts meet in proto/gen"},
		"platform uses platform":            {from: "internal/platform/kafka", imports: []string{"internal/platform/errs"}},
		"platform imports a context":        {from: "internal/platform/kafka", imports: []string{"identity"}, complain: "no business word"},
		"platform imports stream":           {from: "internal/platform/kafka", imports: []string{"internal/stream"}, complain: "no business word"},
		"an engine uses its own parts":      {from: "internal/embedded/qdrant", imports: []string{"internal/embedded/qdrant/wal", "internal/platform/errs"}},
		"an engine imports another":         {from: "internal/embedded/qdrant", imports: []string{"internal/embedded/kafka"}, complain: "reached by its address"},
		"stream imports a context":          {from: "internal/stream", imports: []string{"collector"}, complain: "topic registry"},
		"e2e uses proto":                    {from: "e2e", imports: []string{"../proto/gen/go/mekong/admin/v1"}},
		"e2e imports platform":              {from: "e2e", imports: []string{"internal/platform/errs"}, complain: "public doors"},
		"e2e's tests import testkit":        {from: "e2e", tests: []string{"internal/platform/testkit"}, complain: "testkit is for"},
		"tests use testkit":                 {from: "identity", tests: []string{"internal/platform/testkit"}},
		"production code uses testkit":      {from: "identity", imports: []string{"internal/platform/testkit"}, complain: "testkit is for _test.go"},
		"testkit starts engines":            {from: "internal/platform/testkit", imports: []string{"internal/embedded/postgres"}},
		"tests keep to the law":             {from: "identity", tests: []string{"warehouse"}, complain: "contexts meet in proto/gen"},
		"tests use messages as samples":     {from: "internal/platform/rpc", tests: []string{"../proto/gen/go/mekong/admin/v1"}},
		"platform imports messages":         {from: "internal/platform/rpc", imports: []string{"../proto/gen/go/mekong/admin/v1"}, complain: "no business word"},
		"a command is an engine":            {from: "cmd/mekong", imports: []string{"internal/embedded/clickhouse"}},
		"an unknown room":                   {from: "internal/shared", complain: "no such room"},
		"pure uses errs":                    {from: "identity/graph", imports: []string{"internal/platform/errs"}},
		"pure uses its own parts":           {from: "segmentation/dsl", imports: []string{"segmentation/dsl/token"}},
		"pure imports its parent":           {from: "identity/graph", imports: []string{"internal/platform/kafka"}, complain: "is pure"},
		"pure does I/O":                     {from: "segmentation/compile", imports: []string{"std:database/sql"}, complain: "is pure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := goPackage{ImportPath: services + c.from, Imports: absolute(c.imports), XTestImports: absolute(c.tests)}
			requireComplaint(t, c.complain, checkImports(p))
		})
	}
}

func TestCheckDoc(t *testing.T) {
	t.Parallel()
	requireComplaint(t, "no package comment", checkDoc(goPackage{ImportPath: "x", GoFiles: []string{"x.go"}}))
	requireComplaint(t, "", checkDoc(goPackage{ImportPath: "x", GoFiles: []string{"x.go"}, Doc: "Package x."}))
	requireComplaint(t, "", checkDoc(goPackage{ImportPath: "only/tests"}))
}

func TestCheckFolder(t *testing.T) {
	t.Parallel()
	requireComplaint(t, "name it after the noun", checkFolder("services/identity/utils"))
	requireComplaint(t, "", checkFolder("services/identity/graph"))
}

func TestCheckSource(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ path, source, complain string }{
		"short":                   {"a.go", "package a\n", ""},
		"long":                    {"a.go", "package a\n" + strings.Repeat("\n", maxLines), "801 lines"},
		"long TypeScript":         {"a.tsx", strings.Repeat("\n", maxLines+1), "801 lines"},
		"init":                    {"a.go", "package a\nfunc init() {}\n", "no init()"},
		"a method called init":    {"a.go", "package a\ntype T struct{}\nfunc (T) init() {}\n", ""},
		"panic":                   {"a.go", "package a\nfunc F() { panic(1) }\n", "no panic"},
		"panic that aborts":       {"a.go", "package a\nimport \"net/http\"\nfunc F() { panic(http.ErrAbortHandler) }\n", ""},
		"panic with another":      {"a.go", "package a\nimport \"net/http\"\nfunc F() { panic(http.ErrServerClosed) }\n", "no panic"},
		"panic in a test":         {"a_test.go", "package a\nfunc F() { panic(1) }\n", ""},
		"panic in a comment only": {"a.go", "package a\n// panic(1)\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, err := checkSource(c.path, []byte(c.source))
			require.NoError(t, err)
			requireComplaint(t, c.complain, wrong)
		})
	}
}

func absolute(paths []string) []string {
	out := make([]string, len(paths))
	for i, path := range paths {
		switch {
		case strings.HasPrefix(path, "std:"):
			out[i] = strings.TrimPrefix(path, "std:")
		case strings.HasPrefix(path, "../"):
			out[i] = root + strings.TrimPrefix(path, "../")
		default:
			out[i] = services + path
		}
	}
	return out
}

func requireComplaint(t *testing.T, want string, got []string) {
	t.Helper()
	if want == "" {
		require.Empty(t, got)
		return
	}
	require.Len(t, got, 1)
	require.Contains(t, got[0], want)
}
