package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// RecordAudit writes what another service's user did; repeating an id changes nothing. For services only.
func (s *Service) RecordAudit(ctx context.Context, entry AuditEntry) error {
	if err := requireService(ctx); err != nil {
		return err
	}
	if !entry.At.IsZero() {
		entry.At = entry.At.UTC().Truncate(time.Microsecond)
	}
	if err := entry.Validate(s.now()); err != nil {
		return err
	}
	access := Access{OrganisationID: entry.OrganisationID}
	if entry.WorkspaceID != "" {
		access.WorkspaceIDs = []string{entry.WorkspaceID}
	}
	return s.store.Append(ctx, access, func(ctx context.Context, tx Tx) error {
		if err := requireOwner(ctx, tx, entry); err != nil {
			return err
		}
		added, err := tx.Audit.Insert(ctx, entry)
		if err != nil || !added {
			return err
		}
		return tx.Outbox.Recorded(ctx, entry)
	})
}

// requireOwner makes sure that the entry names an organisation that exists and, if any, a workspace of it.
func requireOwner(ctx context.Context, tx Tx, entry AuditEntry) error {
	_, err := tx.Organisations.Get(ctx, entry.OrganisationID)
	field := "organisation_id"
	if err == nil && entry.WorkspaceID != "" {
		field = "workspace_id"
		var w Workspace
		if w, err = tx.Workspaces.Get(ctx, entry.WorkspaceID); err == nil && w.OrganisationID != entry.OrganisationID {
			err = errWorkspaceNotFound()
		}
	}
	if errs.KindOf(err) == errs.NotFound {
		return errs.Wrap(err, errs.Invalid, "invalid_audit_entry", field+": there is no such one")
	}
	return err
}

// ListAuditEntriesInput asks for a page of the audit log.
type ListAuditEntriesInput struct {
	// WorkspaceID is empty for everything that the caller may see: its organisation, or its one workspace.
	WorkspaceID string
	// PageSize is 0 for the default.
	PageSize  int
	PageToken string
}

// ListAuditEntries returns the newest entries first, and the token of the next page unless this is the last.
func (s *Service) ListAuditEntries(ctx context.Context, in ListAuditEntriesInput) ([]AuditEntry, string, error) {
	p, err := caller(ctx, scopeAuditRead)
	if err != nil {
		return nil, "", err
	}
	size := in.PageSize
	if size == 0 {
		size = defaultAuditPage
	}
	if size < 1 || size > maxAuditPage {
		return nil, "", errs.New(errs.Invalid, "invalid_page_size", fmt.Sprintf("page_size: must be between 1 and %d", maxAuditPage))
	}
	after, err := parseAuditCursor(in.PageToken)
	if err != nil {
		return nil, "", err
	}
	workspaceID := in.WorkspaceID
	if workspaceID == "" && !p.Service && !p.WholeOrganisation && len(p.WorkspaceIDs) > 0 {
		// A token of one workspace sees that one.
		workspaceID = p.WorkspaceIDs[0]
	}
	// One more than asked for tells whether there is another page.
	entries, err := s.auditPage(ctx, p, workspaceID, after, size+1)
	if err != nil || len(entries) <= size {
		return entries, "", err
	}
	last := entries[size-1]
	return entries[:size], AuditCursor{At: last.At, ID: last.ID}.String(), nil
}

func (s *Service) auditPage(
	ctx context.Context, p tenant.Principal, workspaceID string, after AuditCursor, limit int,
) ([]AuditEntry, error) {
	if workspaceID == "" {
		access, err := s.accessOf(ctx, p)
		if err != nil {
			return nil, err
		}
		return view(ctx, s, access, func(ctx context.Context, tx Tx) ([]AuditEntry, error) {
			return tx.Audit.OfOrganisation(ctx, access.OrganisationID, after, limit)
		})
	}
	_, access, err := s.enter(ctx, scopeAuditRead, workspaceID)
	if err != nil {
		return nil, err
	}
	return view(ctx, s, access, func(ctx context.Context, tx Tx) ([]AuditEntry, error) {
		return tx.Audit.OfWorkspace(ctx, workspaceID, after, limit)
	})
}
