package admin

import (
	"context"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// CreateWorkspaceInput describes a new workspace; empty fields but the slug and the name get defaults.
type CreateWorkspaceInput struct {
	Slug, Name, TimeZone, Currency string
}

// CreateWorkspace adds a workspace to the caller's organisation.
func (s *Service) CreateWorkspace(ctx context.Context, in CreateWorkspaceInput) (Workspace, error) {
	p, err := caller(ctx, scopeWorkspacesWrite)
	if err != nil {
		return Workspace{}, err
	}
	if err := requireOrganisation(p); err != nil {
		return Workspace{}, err
	}
	w := Workspace{Slug: in.Slug, Name: in.Name, TimeZone: in.TimeZone, Currency: in.Currency}.Normalize()
	if err := w.Validate(); err != nil {
		return Workspace{}, err
	}
	if w.OrganisationID, err = s.organisationOf(ctx, p); err != nil {
		return Workspace{}, err
	}
	w.ID = ids.New()
	access := Access{OrganisationID: w.OrganisationID, WorkspaceIDs: []string{w.ID}}
	return change(ctx, s, access, func(ctx context.Context, tx Tx) (Workspace, error) {
		existing, err := tx.Workspaces.List(ctx, s.cfg.MaxWorkspaces)
		if err != nil {
			return w, err
		}
		if len(existing) >= s.cfg.MaxWorkspaces {
			return w, errLimitReached("workspaces", s.cfg.MaxWorkspaces)
		}
		return s.insertWorkspace(ctx, tx, w)
	})
}

func (s *Service) insertWorkspace(ctx context.Context, tx Tx, w Workspace) (Workspace, error) {
	w.CreatedAt = s.now()
	w.Revision = nextRevision(0, w.CreatedAt)
	if err := tx.Workspaces.Insert(ctx, w); err != nil {
		return w, err
	}
	return w, s.record(ctx, tx, w.did("workspace.create", "workspace", w.ID), Change{Workspace: &w})
}

// ListWorkspaces returns the workspaces that the caller may see, by slug.
func (s *Service) ListWorkspaces(ctx context.Context) ([]Workspace, error) {
	p, err := caller(ctx, scopeWorkspacesRead)
	if err != nil {
		return nil, err
	}
	access, err := s.accessOf(ctx, p)
	if err != nil {
		return nil, err
	}
	return view(ctx, s, access, func(ctx context.Context, tx Tx) ([]Workspace, error) {
		return tx.Workspaces.List(ctx, s.cfg.MaxWorkspaces)
	})
}

// GetWorkspace finds a workspace by id or slug.
func (s *Service) GetWorkspace(ctx context.Context, idOrSlug string) (Workspace, error) {
	p, err := caller(ctx, scopeWorkspacesRead)
	if err != nil {
		return Workspace{}, err
	}
	access, err := s.accessOf(ctx, p)
	if err != nil {
		return Workspace{}, err
	}
	return view(ctx, s, access, func(ctx context.Context, tx Tx) (Workspace, error) {
		if ids.Valid(idOrSlug) {
			return tx.Workspaces.Get(ctx, idOrSlug)
		}
		return tx.Workspaces.GetBySlug(ctx, idOrSlug)
	})
}

// UpdateWorkspaceSettingsInput changes what is not nil.
type UpdateWorkspaceSettingsInput struct {
	WorkspaceID              string
	Name, TimeZone, Currency *string
}

// UpdateWorkspaceSettings changes name, time zone or currency.
func (s *Service) UpdateWorkspaceSettings(ctx context.Context, in UpdateWorkspaceSettingsInput) (Workspace, error) {
	_, access, err := s.enter(ctx, scopeWorkspacesWrite, in.WorkspaceID)
	if err != nil {
		return Workspace{}, err
	}
	return change(ctx, s, access, func(ctx context.Context, tx Tx) (Workspace, error) {
		old, err := tx.Workspaces.Get(ctx, in.WorkspaceID)
		if err != nil {
			return old, err
		}
		w := old
		set(&w.Name, in.Name)
		set(&w.TimeZone, in.TimeZone)
		set(&w.Currency, in.Currency)
		w = w.withoutSpaces()
		if err := w.Validate(); err != nil || w == old {
			return w, err
		}
		w.Revision = nextRevision(old.Revision, s.now())
		if err := tx.Workspaces.Update(ctx, w); err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, w.did("workspace.update", "workspace", w.ID), Change{Workspace: &w})
	})
}

// GetOrganisation returns the caller's organisation.
func (s *Service) GetOrganisation(ctx context.Context) (Organisation, error) {
	p, err := caller(ctx, scopeOrganisationRead)
	if err != nil {
		return Organisation{}, err
	}
	id, err := s.organisationOf(ctx, p)
	if err != nil {
		return Organisation{}, err
	}
	return view(ctx, s, Access{OrganisationID: id}, func(ctx context.Context, tx Tx) (Organisation, error) {
		return tx.Organisations.Get(ctx, id)
	})
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}
