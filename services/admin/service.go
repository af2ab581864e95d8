package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// Service holds the use cases. Each one authorises its caller; each change writes its rows, its audit entry and what
// the log must learn in one transaction.
type Service struct {
	store   Store
	clock   clock.Clock
	cfg     Config
	metrics *metrics
	// requestID tells which request a context serves.
	requestID func(context.Context) string
}

// now has the precision of Postgres, so that what is answered is what will be read.
func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Microsecond) }

func caller(ctx context.Context, scope string) (tenant.Principal, error) {
	p, ok := tenant.From(ctx)
	if !ok {
		return tenant.Principal{}, tenant.ErrUnauthenticated()
	}
	return p, p.Require(scope)
}

// requireService keeps doors between services closed to API tokens, those with every scope included.
func requireService(ctx context.Context) error {
	p, ok := tenant.From(ctx)
	switch {
	case !ok:
		return tenant.ErrUnauthenticated()
	case !p.Service:
		return errs.New(errs.Forbidden, "internal_only", "Only the services of this installation may call this.")
	default:
		return nil
	}
}

// requireOrganisation keeps what concerns a whole organisation from tokens of one workspace.
func requireOrganisation(p tenant.Principal) error {
	if p.Service || p.WholeOrganisation {
		return nil
	}
	return errs.New(errs.Forbidden, "organisation_token_required",
		"This token holds for one workspace only; use a token of the organisation.")
}

// organisationOf returns the caller's organisation. The services belong to none and act for the installation's only one.
func (s *Service) organisationOf(ctx context.Context, p tenant.Principal) (string, error) {
	if !p.Service {
		return p.OrganisationID, nil
	}
	found, err := view(ctx, s, Access{System: true}, func(ctx context.Context, tx Tx) ([]Organisation, error) {
		return tx.Organisations.List(ctx, 2)
	})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", errs.New(errs.Precondition, "no_organisation", "There is no organisation yet; start Mekong once, which creates it.")
	case len(found) > 1:
		return "", errs.New(errs.Precondition, "organisation_ambiguous", "There are several organisations; use a token of the one that is meant.")
	default:
		return found[0].ID, nil
	}
}

// accessOf returns everything that the caller may see.
func (s *Service) accessOf(ctx context.Context, p tenant.Principal) (Access, error) {
	if !p.Service && !p.WholeOrganisation {
		return Access{WorkspaceIDs: p.WorkspaceIDs}, nil
	}
	organisationID, err := s.organisationOf(ctx, p)
	return Access{OrganisationID: organisationID}, err
}

// enter authorises the caller for one workspace and returns it with the access of exactly that one. A token of the
// organisation may enter a workspace that was created after its list was read.
func (s *Service) enter(ctx context.Context, scope, workspaceID string) (Workspace, Access, error) {
	p, err := caller(ctx, scope)
	if err != nil {
		return Workspace{}, Access{}, err
	}
	if !ids.Valid(workspaceID) {
		return Workspace{}, Access{}, errWorkspaceNotFound()
	}
	access := Access{WorkspaceIDs: []string{workspaceID}}
	look := access
	if !p.Service && !slices.Contains(p.WorkspaceIDs, workspaceID) {
		if !p.WholeOrganisation {
			return Workspace{}, Access{}, errWorkspaceNotFound()
		}
		look = Access{OrganisationID: p.OrganisationID}
	}
	w, err := view(ctx, s, look, func(ctx context.Context, tx Tx) (Workspace, error) {
		return tx.Workspaces.Get(ctx, workspaceID)
	})
	return w, access, err
}

// view returns what fn reads.
func view[T any](ctx context.Context, s *Service, access Access, fn func(context.Context, Tx) (T, error)) (T, error) {
	return result(ctx, s.store.View, access, fn)
}

// change returns what fn leaves behind, if all of it was written.
func change[T any](ctx context.Context, s *Service, access Access, fn func(context.Context, Tx) (T, error)) (T, error) {
	return result(ctx, s.store.Change, access, fn)
}

func result[T any](
	ctx context.Context, run func(context.Context, Access, TxFunc) error, access Access, fn func(context.Context, Tx) (T, error),
) (T, error) {
	var out, none T
	err := run(ctx, access, func(ctx context.Context, tx Tx) error {
		var err error
		out, err = fn(ctx, tx)
		return err
	})
	if err != nil {
		return none, err
	}
	return out, nil
}

// record writes who did what, and what the log must learn of it.
func (s *Service) record(ctx context.Context, tx Tx, entry AuditEntry, changes ...Change) error {
	entry.ID, entry.At = ids.New(), s.now()
	entry.Actor = "system"
	if p, ok := tenant.From(ctx); ok {
		entry.Actor = p.Actor()
	}
	// Request ids come from outside: one that is no plain text is not worth failing for.
	if id := s.requestID(ctx); isAuditText(id) {
		entry.RequestID = id
	}
	if _, err := tx.Audit.Insert(ctx, entry); err != nil {
		return err
	}
	if err := tx.Outbox.Recorded(ctx, entry); err != nil {
		return err
	}
	return tx.Outbox.Changed(ctx, changes...)
}

// did begins the audit entry of a change in a workspace.
func (w Workspace) did(action, kind, id string) AuditEntry {
	return AuditEntry{OrganisationID: w.OrganisationID, WorkspaceID: w.ID, Action: action, Target: kind + ":" + id}
}

func errLimitReached(what string, limit int) error {
	return errs.New(errs.Precondition, "limit_reached",
		fmt.Sprintf("There are %d %s already, which is the limit; delete some or raise it in the settings.", limit, what))
}
