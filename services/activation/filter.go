package activation

import (
	"fmt"
	"regexp"

	"cel.dev/cel-go/cel"
)

// filter decides which events a destination gets. It is safe for concurrent use.
type filter struct {
	program cel.Program
	// documents is set when the expression looks into properties, traits or context, which must then be decoded.
	documents bool
}

// filterCost bounds what one evaluation may do, in CEL's own cost units.
const filterCost = 100_000

// compileFilter returns the filter of a CEL expression that yields a bool; an empty expression lets everything pass.
func compileFilter(expression string) (*filter, error) {
	if expression == "" {
		return &filter{}, nil
	}
	env, err := cel.NewEnv(cel.Variable("event", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, fmt.Errorf("is not valid CEL: %w", issues.Err())
	}
	if out := ast.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("must yield true or false, not %s", out)
	}
	program, err := env.Program(ast, cel.CostLimit(filterCost))
	if err != nil {
		return nil, fmt.Errorf("cannot be run: %w", err)
	}
	return &filter{program: program, documents: needsDocuments(expression)}, nil
}

// needsDocuments reports whether an expression may look at more than the plain fields of the event. In doubt it does.
func needsDocuments(expression string) bool {
	plain := regexp.MustCompile(`^\.(id|type|name|timestamp|source_id|profile_id|anonymous_id|user_id|session_id|group_id|shop_step)\b`)
	for _, place := range regexp.MustCompile(`\bevent\b`).FindAllStringIndex(expression, -1) {
		if !plain.MatchString(expression[place[1]:]) {
			return true
		}
	}
	return false
}

// matches reports whether the event passes. An expression that fails on an event, say for a property that it lacks, does
// not match it.
func (f *filter) matches(m *message) (bool, error) {
	if f.program == nil {
		return true, nil
	}
	out, _, err := f.program.Eval(map[string]any{"event": m.celEvent(f.documents)})
	if err != nil {
		return false, err
	}
	yes, ok := out.Value().(bool)
	return ok && yes, nil
}
