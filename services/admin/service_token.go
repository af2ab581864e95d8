package admin

import (
	"context"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// CreateAPITokenInput describes a new token.
type CreateAPITokenInput struct {
	Name   string
	Scopes []string
	// WorkspaceID is empty for a token of the whole organisation.
	WorkspaceID string
	// ExpiresAt is zero for a token that does not expire.
	ExpiresAt time.Time
}

// CreateAPIToken makes a token that may do no more than its creator, and returns its secret, which is kept nowhere.
func (s *Service) CreateAPIToken(ctx context.Context, in CreateAPITokenInput) (token APIToken, secret string, err error) {
	p, err := caller(ctx, scopeTokensWrite)
	if err != nil {
		return APIToken{}, "", err
	}
	t := APIToken{
		ID: ids.New(), Name: strings.TrimSpace(in.Name), Scopes: normalizeScopes(in.Scopes), WorkspaceID: in.WorkspaceID,
		ExpiresAt: in.ExpiresAt,
	}
	if !t.ExpiresAt.IsZero() {
		t.ExpiresAt = t.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	if err := t.Validate(s.now()); err != nil {
		return APIToken{}, "", err
	}
	if err := requireHeld(p, t.Scopes); err != nil {
		return APIToken{}, "", err
	}
	var access Access
	if t.WorkspaceID == "" {
		if err := requireOrganisation(p); err != nil {
			return APIToken{}, "", err
		}
		if access, err = s.accessOf(ctx, p); err != nil {
			return APIToken{}, "", err
		}
		t.OrganisationID = access.OrganisationID
	} else {
		var w Workspace
		if w, access, err = s.enter(ctx, scopeTokensWrite, t.WorkspaceID); err != nil {
			return APIToken{}, "", err
		}
		t.OrganisationID = w.OrganisationID
	}
	secret = newTokenSecret()
	t.SecretHash = hashSecret(secret)
	t, err = change(ctx, s, access, func(ctx context.Context, tx Tx) (APIToken, error) {
		existing, err := tx.Tokens.List(ctx, s.cfg.MaxTokens)
		if err != nil {
			return t, err
		}
		if len(existing) >= s.cfg.MaxTokens {
			return t, errLimitReached("API tokens", s.cfg.MaxTokens)
		}
		return s.insertToken(ctx, tx, t)
	})
	if err != nil {
		return APIToken{}, "", err
	}
	return t, secret, nil
}

func (s *Service) insertToken(ctx context.Context, tx Tx, t APIToken) (APIToken, error) {
	t.CreatedAt = s.now()
	if err := tx.Tokens.Insert(ctx, t); err != nil {
		return t, err
	}
	return t, s.record(ctx, tx, t.was("api_token.create"))
}

// was begins the audit entry of a change of the token.
func (t APIToken) was(action string) AuditEntry {
	return AuditEntry{
		OrganisationID: t.OrganisationID, WorkspaceID: t.WorkspaceID, Action: action, Target: "api_token:" + t.ID,
	}
}

// requireHeld keeps callers from giving away what they do not have.
func requireHeld(p tenant.Principal, scopes []string) error {
	var lacking []string
	for _, scope := range scopes {
		if p.Require(scope) != nil {
			lacking = append(lacking, scope)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return errs.New(errs.Forbidden, "scope_not_held",
		"This token lacks "+strings.Join(lacking, ", ")+" and so cannot grant it; use a token that has it.")
}

// ListAPITokens returns the tokens that the caller may see and that are not revoked, oldest first.
func (s *Service) ListAPITokens(ctx context.Context) ([]APIToken, error) {
	p, err := caller(ctx, scopeTokensRead)
	if err != nil {
		return nil, err
	}
	access, err := s.accessOf(ctx, p)
	if err != nil {
		return nil, err
	}
	return view(ctx, s, access, func(ctx context.Context, tx Tx) ([]APIToken, error) {
		return tx.Tokens.List(ctx, s.cfg.MaxTokens)
	})
}

// RevokeAPIToken stops a token; other services notice within seconds.
func (s *Service) RevokeAPIToken(ctx context.Context, tokenID string) error {
	p, err := caller(ctx, scopeTokensWrite)
	if err != nil {
		return err
	}
	access, err := s.accessOf(ctx, p)
	if err != nil {
		return err
	}
	if !ids.Valid(tokenID) {
		return errTokenNotFound()
	}
	seen, err := view(ctx, s, access, func(ctx context.Context, tx Tx) (APIToken, error) {
		return tx.Tokens.Get(ctx, tokenID)
	})
	if err != nil {
		return err
	}
	if access.OrganisationID != "" && seen.WorkspaceID != "" {
		// What happened is told to the workspace.
		access.WorkspaceIDs = []string{seen.WorkspaceID}
	}
	return s.store.Change(ctx, access, func(ctx context.Context, tx Tx) error {
		t, err := tx.Tokens.Get(ctx, tokenID)
		if err != nil {
			return err
		}
		if !t.RevokedAt.IsZero() {
			return errTokenNotFound()
		}
		if err := tx.Tokens.SetRevoked(ctx, t.ID, s.now()); err != nil {
			return err
		}
		return s.record(ctx, tx, t.was("api_token.revoke"))
	})
}

// AuthenticateToken tells whom a secret belongs to and where it may act; for services only.
func (s *Service) AuthenticateToken(ctx context.Context, secret string) (APIToken, []string, error) {
	if err := requireService(ctx); err != nil {
		return APIToken{}, nil, err
	}
	if secret == "" || len(secret) > maxTokenLength {
		s.metrics.tokenChecked(ctx, false)
		return APIToken{}, nil, errTokenRefused()
	}
	hash, now := hashSecret(secret), s.now()
	type answer struct {
		token      APIToken
		workspaces []string
	}
	found, err := view(ctx, s, Access{System: true}, func(ctx context.Context, tx Tx) (answer, error) {
		t, workspaces, err := tx.Tokens.Authenticate(ctx, hash)
		return answer{t, workspaces}, err
	})
	if errs.KindOf(err) == errs.NotFound || (err == nil && (!found.token.matches(hash) || !found.token.Accepted(now))) {
		s.metrics.tokenChecked(ctx, false)
		return APIToken{}, nil, errTokenRefused()
	}
	if err != nil {
		return APIToken{}, nil, err
	}
	s.metrics.tokenChecked(ctx, true)
	if found.token.usedLongAgo(now) {
		s.touch(ctx, found.token.ID, now)
	}
	return found.token, found.workspaces, nil
}

// touch notes that a token was used. A failure is counted only: the caller has shown a good token.
func (s *Service) touch(ctx context.Context, tokenID string, now time.Time) {
	err := s.store.Append(ctx, Access{System: true}, func(ctx context.Context, tx Tx) error {
		return tx.Tokens.Touch(ctx, tokenID, now)
	})
	if err != nil {
		s.metrics.touchFailed(ctx)
	}
}
