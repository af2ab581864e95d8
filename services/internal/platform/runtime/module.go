package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Module is one row of the module table.
type Module struct {
	Name string
	// Needs are the names of the modules that must have started first; selecting this one selects them too.
	Needs []string
	// After orders this module behind others that happen to be selected, without selecting them.
	After []string
	// Build makes the module's runners. It runs after all needs have started.
	Build func(ctx context.Context) (Parts, error)
}

// Parts is what a module consists of once built.
type Parts struct {
	// Runners in the order of their start.
	Runners []Runner
	// Close frees what Build opened, after the runners have stopped. May be nil.
	Close func(ctx context.Context) error
}

// Order returns the targets and everything that they need in the order of start. Unknown names and cycles are errors.
func Order(table []Module, targets []string) ([]Module, error) {
	o := orderer{byName: map[string]Module{}, state: map[string]visit{}}
	for _, m := range table {
		if _, twice := o.byName[m.Name]; twice {
			return nil, errs.New(errs.Internal, "module_twice", fmt.Sprintf("The module table has %q twice.", m.Name))
		}
		o.byName[m.Name] = m
	}
	selected := map[string]bool{}
	for _, name := range targets {
		if err := o.selectWithNeeds(name, selected); err != nil {
			return nil, err
		}
	}
	// The table's own order breaks ties, so that the same targets always start in the same order.
	for _, m := range table {
		if selected[m.Name] {
			if err := o.visit(m.Name, selected); err != nil {
				return nil, err
			}
		}
	}
	return o.ordered, nil
}

type visit uint8

const (
	unvisited visit = iota
	visiting
	visited
)

type orderer struct {
	byName  map[string]Module
	state   map[string]visit
	path    []string
	ordered []Module
}

func (o *orderer) selectWithNeeds(name string, selected map[string]bool) error {
	if selected[name] {
		return nil
	}
	m, ok := o.byName[name]
	if !ok {
		return errs.New(errs.Invalid, "unknown_target",
			fmt.Sprintf("There is no target %q; the targets are: %s", name, strings.Join(o.names(), ", ")))
	}
	selected[name] = true
	for _, need := range m.Needs {
		if err := o.selectWithNeeds(need, selected); err != nil {
			return err
		}
	}
	return nil
}

func (o *orderer) visit(name string, selected map[string]bool) error {
	switch o.state[name] {
	case visited:
		return nil
	case visiting:
		return errs.New(errs.Internal, "module_cycle",
			fmt.Sprintf("The module table has a cycle: %s → %s", strings.Join(o.path, " → "), name))
	case unvisited:
	}
	o.state[name] = visiting
	o.path = append(o.path, name)
	m := o.byName[name]
	for _, before := range slices.Concat(m.Needs, m.After) {
		if selected[before] {
			if err := o.visit(before, selected); err != nil {
				return err
			}
		}
	}
	o.path = o.path[:len(o.path)-1]
	o.state[name] = visited
	o.ordered = append(o.ordered, m)
	return nil
}

func (o *orderer) names() []string {
	names := make([]string, 0, len(o.byName))
	for name := range o.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
