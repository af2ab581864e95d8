// Package arch_test keeps the layout of the repository as ARCHITECTURE.md describes it: who may import whom, how long a
// file may be, and what production code never does. Each complaint says what to do instead.
package arch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	root     = "github.com/mekong-cdp/mekong/"
	services = root + "services/"
	maxLines = 800
)

// A layer is a kind of room; mayImport is the whole law between them. A package may always import its own house.
type layer string

const (
	layerCmd      layer = "cmd"
	layerApp      layer = "app"
	layerContext  layer = "context"
	layerStream   layer = "stream"
	layerEmbedded layer = "embedded"
	layerPlatform layer = "platform"
	layerTestkit  layer = "testkit"
	layerWeb      layer = "web"
	layerE2E      layer = "e2e"
	layerBench    layer = "bench"
	layerProto    layer = "proto"
	layerSDK      layer = "sdk"
	layerRoot     layer = "root"
	layerUnknown  layer = "unknown"
)

var mayImport = map[layer][]layer{
	// A command may be an engine: the embedded ClickHouse lives in a child process of the same binary.
	layerCmd:      {layerApp, layerEmbedded, layerPlatform, layerStream, layerProto},
	layerApp:      {layerContext, layerEmbedded, layerWeb, layerStream, layerPlatform, layerProto},
	layerContext:  {layerStream, layerPlatform, layerProto},
	layerStream:   {layerPlatform, layerProto},
	layerEmbedded: {layerPlatform},
	layerPlatform: {layerPlatform},
	layerTestkit:  {layerEmbedded, layerStream, layerPlatform, layerProto},
	layerWeb:      {layerPlatform, layerProto},
	layerE2E:      {layerProto},
	layerBench:    {layerEmbedded, layerStream, layerPlatform, layerProto},
	layerRoot:     {},
}

var instead = map[layer]string{
	layerCmd:      "a command only starts what services/internal/app wires",
	layerApp:      "app wires contexts and engines and is imported by cmd alone",
	layerContext:  "contexts meet in proto/gen (declare the generated gRPC client interface) and on Kafka topics, never by import; what both need belongs to services/internal/platform when it has no business word",
	layerStream:   "the topic registry knows names, keys and messages, not the code that uses them",
	layerEmbedded: "an engine is reached by its address only and knows nothing but platform packages",
	layerPlatform: "platform has no business word: pass the value in, or declare an interface where it is used",
	layerTestkit:  "testkit starts engines for tests and knows no context",
	layerWeb:      "the web package only serves files",
	layerE2E:      "black-box tests use public doors: the binary, HTTP and the gRPC clients of proto/gen",
	layerBench:    "benchmarks drive the built binary and compare it with engines and drivers, never with our own services' code",
	layerRoot:     "this package only looks at the others",
}

var contexts = []string{
	"collector", "identity", "warehouse", "segmentation", "activation", "importer", "crm", "insights", "admin",
}

// pure packages compute and do no I/O: table tests, golden files and fuzzing depend on it.
var pure = []string{
	"identity/graph", "identity/match", "segmentation/dsl", "segmentation/compile", "activation/journey",
}

var pureMayImport = []string{"internal/platform/errs", "internal/platform/ids", "internal/platform/clock"}

var forbiddenFolders = []string{"util", "utils", "common", "misc", "helper", "helpers", "model", "models"}

// goPackage is what we read of `go list -json`.
type goPackage struct {
	ImportPath   string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// room returns the layer of an import path and its house: the part of the tree inside which imports are free.
func room(importPath string) (layer, string) {
	if strings.HasPrefix(importPath, root+"proto/") {
		return layerProto, "proto"
	}
	if strings.HasPrefix(importPath, root+"sdk/") {
		return layerSDK, "sdk"
	}
	if importPath+"/" == services {
		return layerRoot, ""
	}
	parts := strings.Split(strings.TrimPrefix(importPath, services), "/")
	first := parts[0]
	second := ""
	if len(parts) > 1 {
		second = parts[1]
	}
	switch {
	case first == "cmd":
		return layerCmd, "cmd/" + second
	case first == "e2e":
		return layerE2E, "e2e"
	case first == "bench":
		return layerBench, "bench"
	case slices.Contains(contexts, first):
		return layerContext, first
	case first != "internal":
		return layerUnknown, first
	}
	switch second {
	case "app", "stream", "web":
		return layer(second), "internal/" + second
	case "embedded", "platform":
		house := "internal/" + strings.Join(parts[1:min(3, len(parts))], "/")
		if house == "internal/platform/testkit" {
			return layerTestkit, house
		}
		return layer(second), house
	}
	return layerUnknown, "internal/" + second
}

// checkImports returns what is wrong with a package's imports. On top of what the code may use, tests may use testkit,
// and messages of proto as samples.
func checkImports(p goPackage) []string {
	from, house := room(p.ImportPath)
	if from == layerUnknown {
		return []string{fmt.Sprintf("%s: no such room: put the code into a context, internal/app, internal/stream, internal/web, internal/embedded or internal/platform, or add the room to services/arch_test.go and ARCHITECTURE.md", p.ImportPath)}
	}
	var wrong []string
	check := func(imports []string, isTest bool) {
		for _, imported := range imports {
			if !strings.HasPrefix(imported, root) {
				continue
			}
			to, target := room(imported)
			switch {
			case to == from && target == house:
			case to == layerTestkit && isTest && from != layerE2E:
			case to == layerProto && isTest:
			case to == layerTestkit:
				wrong = append(wrong, fmt.Sprintf("%s imports %s: testkit is for _test.go files", p.ImportPath, imported))
			case !slices.Contains(mayImport[from], to):
				wrong = append(wrong, fmt.Sprintf("%s (%s) imports %s (%s): %s", p.ImportPath, from, imported, to, instead[from]))
			}
		}
	}
	check(p.Imports, false)
	check(p.TestImports, true)
	check(p.XTestImports, true)
	return append(wrong, checkPure(p)...)
}

// checkPure returns what is wrong with a package that is listed as pure.
func checkPure(p goPackage) []string {
	name := strings.TrimPrefix(p.ImportPath, services)
	isPure := slices.ContainsFunc(pure, func(dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") })
	if !isPure {
		return nil
	}
	var wrong []string
	for _, imported := range p.Imports {
		ours, found := strings.CutPrefix(imported, services)
		switch {
		case found && !slices.Contains(pureMayImport, ours) && !isWithin(name, ours):
			wrong = append(wrong, fmt.Sprintf("%s is pure and imports %s: only errs, ids and clock; pass values in, and do I/O in service.go or store_*.go", p.ImportPath, imported))
		case imported == "os", imported == "os/exec", imported == "net", strings.HasPrefix(imported, "net/http"), strings.HasPrefix(imported, "database/sql"):
			wrong = append(wrong, fmt.Sprintf("%s is pure and imports %s: read and send in service.go or store_*.go and pass values in", p.ImportPath, imported))
		}
	}
	return wrong
}

// isWithin is true for two packages of the same pure tree (segmentation/dsl and segmentation/dsl/parse).
func isWithin(a, b string) bool {
	return strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}

// checkDoc complains about a package without a package comment.
func checkDoc(p goPackage) []string {
	if p.Doc != "" || len(p.GoFiles) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s has no package comment: add doc.go with purpose, invariants and what is not obvious", p.ImportPath)}
}

// checkFolder complains about a folder whose name says nothing.
func checkFolder(path string) []string {
	if !slices.Contains(forbiddenFolders, filepath.Base(path)) {
		return nil
	}
	return []string{fmt.Sprintf("%s: a folder named %q collects anything: name it after the noun it holds", path, filepath.Base(path))}
}

// checkSource complains about a file's length and, in production Go code, about init and panic.
func checkSource(path string, source []byte) ([]string, error) {
	var wrong []string
	if lines := bytes.Count(source, []byte("\n")); lines > maxLines {
		wrong = append(wrong, fmt.Sprintf("%s has %d lines, %d are allowed: split it by noun (store_postgres_edges.go)", path, lines, maxLines))
	}
	if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
		return wrong, nil
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				wrong = append(wrong, fmt.Sprintf("%s: no init(): register in an explicit list that the caller builds", files.Position(n.Pos())))
			}
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "panic" && !abortsHandler(n) {
				wrong = append(wrong, fmt.Sprintf("%s: no panic in production code: return an error of platform/errs", files.Position(n.Pos())))
			}
		}
		return true
	})
	return wrong, nil
}

// abortsHandler is true for panic(http.ErrAbortHandler): net/http has no other way to break a response that began.
func abortsHandler(call *ast.CallExpr) bool {
	if len(call.Args) != 1 {
		return false
	}
	selector, ok := call.Args[0].(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "http" && selector.Sel.Name == "ErrAbortHandler"
}

// listPackages returns every package of the services module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	require.NoError(t, err, stderr.String())
	var packages []goPackage
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

func TestImportsAndPackageComments(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	require.NotEmpty(t, packages)
	var wrong []string
	for _, p := range packages {
		wrong = append(wrong, checkImports(p)...)
		wrong = append(wrong, checkDoc(p)...)
	}
	require.Empty(t, wrong, strings.Join(wrong, "\n"))
}

func TestFilesAndFolders(t *testing.T) {
	t.Parallel()
	var wrong []string
	seen := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			name := entry.Name()
			if name == "node_modules" || name == "dist" || name == "gen" || name == "testdata" || (strings.HasPrefix(name, ".") && name != "..") {
				return filepath.SkipDir
			}
			wrong = append(wrong, checkFolder(path)...)
			return nil
		}
		if !slices.Contains([]string{".go", ".ts", ".tsx", ".mjs", ".py"}, filepath.Ext(path)) {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		found, err := checkSource(path, source)
		wrong = append(wrong, found...)
		return err
	})
	require.NoError(t, err)
	require.Positive(t, seen)
	require.Empty(t, wrong, strings.Join(wrong, "\n"))
}
