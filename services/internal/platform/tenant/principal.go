package tenant

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Principal is an authenticated caller.
type Principal struct {
	// TokenID names the API token; empty for a service.
	TokenID        string
	OrganisationID string
	// WorkspaceIDs are all workspaces that the caller may act in.
	WorkspaceIDs []string
	Scopes       []string
	// WholeOrganisation tells a token of the organisation from one of a single workspace.
	WholeOrganisation bool
	// Service is one of our own services: it may do everything.
	Service bool

	refresh func(ctx context.Context) (Principal, error)
}

// WithRefresh returns p, which is a remembered answer, with a way to ask again.
func (p Principal) WithRefresh(refresh func(ctx context.Context) (Principal, error)) Principal {
	p.refresh = refresh
	return p
}

// Actor names the caller in the audit log.
func (p Principal) Actor() string {
	if p.Service {
		return "system"
	}
	return "token:" + p.TokenID
}

// Require returns Forbidden unless the caller has scope. A scope "<noun>:write" includes "<noun>:read".
func (p Principal) Require(scope string) error {
	if p.Service || p.has(scope) {
		return nil
	}
	return errs.New(errs.Forbidden, "missing_scope", fmt.Sprintf("This token lacks the scope %s; create one that has it", scope))
}

func (p Principal) has(scope string) bool {
	if slices.Contains(p.Scopes, "*") || slices.Contains(p.Scopes, scope) {
		return true
	}
	const read = ":read"
	if n := len(scope) - len(read); n > 0 && scope[n:] == read {
		return slices.Contains(p.Scopes, scope[:n]+":write")
	}
	return false
}

// RequireWorkspace returns NotFound unless the caller may act in the workspace.
func (p Principal) RequireWorkspace(workspaceID string) error {
	if p.Service || slices.Contains(p.WorkspaceIDs, workspaceID) {
		return nil
	}
	return errs.New(errs.NotFound, "workspace_not_found", "There is no such workspace, or this token may not use it.")
}

// Authorize is Require and RequireWorkspace for the caller of ctx; Unauthenticated when there is none.
func Authorize(ctx context.Context, scope, workspaceID string) (Principal, error) {
	p, ok := From(ctx)
	if !ok {
		return Principal{}, ErrUnauthenticated()
	}
	if err := p.Require(scope); err != nil {
		return Principal{}, err
	}
	err := p.RequireWorkspace(workspaceID)
	if err == nil || p.refresh == nil || !p.WholeOrganisation {
		return p, err
	}
	if p, err = p.refresh(ctx); err != nil {
		return Principal{}, err
	}
	return p, errors.Join(p.Require(scope), p.RequireWorkspace(workspaceID))
}

// ErrUnauthenticated is the answer to a call without a valid token.
func ErrUnauthenticated() error {
	return errs.New(errs.Unauthenticated, "unauthenticated", "Send a valid API token as Authorization: Bearer <token>.")
}

type contextKey struct{}

// With returns ctx with the caller.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From returns the caller of ctx.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(contextKey{}).(Principal)
	return p, ok
}
