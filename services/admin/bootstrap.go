package admin

import (
	"context"
	"slices"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// The demo's fixed credentials. Everyone knows them, so they work only while the installation is started as a demo.
const (
	DemoSlug     = "demo"
	DemoWriteKey = "demo_write_key"
	DemoToken    = "demo_api_token"
)

const demoSourceName = "Demo shop"

// BootstrapInput says how the installation is started.
type BootstrapInput struct {
	// Demo adds the demo workspace with its fixed credentials; only for an installation that listens on loopback.
	Demo bool
}

// BootstrapResult is what the one who started the installation must learn.
type BootstrapResult struct {
	// OwnerToken is the secret of the organisation's first token; set by the first start only, and kept nowhere.
	OwnerToken config.Secret
	// DemoWorkspaceID is set whenever the installation is started as a demo.
	DemoWorkspaceID string
	// DemoCreated tells that this start made the demo workspace, which is still empty.
	DemoCreated bool
}

// Bootstrap makes what an installation needs before anyone can use it. It may run at every start and on several
// instances at once: what is there stays. A start that is no demo stops the demo's credentials, the next demo start
// lets them work again.
func (s *Service) Bootstrap(ctx context.Context, in BootstrapInput) (BootstrapResult, error) {
	return change(ctx, s, Access{System: true}, func(ctx context.Context, tx Tx) (BootstrapResult, error) {
		var result BootstrapResult
		organisation, err := s.ensureOrganisation(ctx, tx, &result)
		if err != nil {
			return result, err
		}
		if !in.Demo {
			return result, s.stopDemo(ctx, tx)
		}
		w, err := s.ensureDemoWorkspace(ctx, tx, organisation, &result)
		if err != nil {
			return result, err
		}
		result.DemoWorkspaceID = w.ID
		if err := s.ensureDemoKey(ctx, tx, w); err != nil {
			return result, err
		}
		return result, s.ensureDemoToken(ctx, tx, w)
	})
}

func (s *Service) ensureOrganisation(ctx context.Context, tx Tx, result *BootstrapResult) (Organisation, error) {
	existing, err := tx.Organisations.List(ctx, 1)
	if err != nil {
		return Organisation{}, err
	}
	if len(existing) > 0 {
		return existing[0], nil
	}
	o := Organisation{ID: ids.New(), Name: "My organisation", CreatedAt: s.now()}
	if err := tx.Organisations.Insert(ctx, o); err != nil {
		return o, err
	}
	if err := s.record(ctx, tx, AuditEntry{
		OrganisationID: o.ID, Action: "organisation.create", Target: "organisation:" + o.ID,
	}); err != nil {
		return o, err
	}
	secret := newTokenSecret()
	result.OwnerToken = config.Secret(secret)
	_, err = s.insertToken(ctx, tx, APIToken{
		ID: ids.New(), OrganisationID: o.ID, Name: "owner", Scopes: []string{ScopeAll}, SecretHash: hashSecret(secret),
	})
	return o, err
}

func (s *Service) ensureDemoWorkspace(ctx context.Context, tx Tx, o Organisation, result *BootstrapResult) (Workspace, error) {
	w, err := tx.Workspaces.GetBySlug(ctx, DemoSlug)
	if errs.KindOf(err) != errs.NotFound {
		return w, err
	}
	result.DemoCreated = true
	return s.insertWorkspace(ctx, tx, Workspace{
		ID: ids.New(), OrganisationID: o.ID, Slug: DemoSlug, Name: "Demo", TimeZone: DefaultTimeZone, Currency: DefaultCurrency,
	})
}

func (s *Service) ensureDemoKey(ctx context.Context, tx Tx, w Workspace) error {
	k, _, err := tx.WriteKeys.Resolve(ctx, DemoWriteKey)
	if err == nil {
		return s.setDemoKey(ctx, tx, k, time.Time{})
	}
	if errs.KindOf(err) != errs.NotFound {
		return err
	}
	sources, err := tx.Sources.List(ctx, w.ID, s.cfg.MaxSources)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(sources, func(source Source) bool { return source.Name == demoSourceName })
	if i < 0 {
		source := Source{WorkspaceID: w.ID, ID: ids.New(), Name: demoSourceName, Type: SourceWeb, Enabled: true, Origins: []string{}}
		_, err := s.insertSource(ctx, tx, w, source, DemoWriteKey)
		return err
	}
	now := s.now()
	k = WriteKey{WorkspaceID: w.ID, SourceID: sources[i].ID, Key: DemoWriteKey, CreatedAt: now, Revision: nextRevision(0, now)}
	if err := tx.WriteKeys.Insert(ctx, k); err != nil {
		return err
	}
	return s.record(ctx, tx, w.did("write_key.create", "write_key", k.Key), Change{WriteKey: &k})
}

func (s *Service) ensureDemoToken(ctx context.Context, tx Tx, w Workspace) error {
	t, _, err := tx.Tokens.Authenticate(ctx, hashSecret(DemoToken))
	if err == nil {
		return s.setDemoToken(ctx, tx, t, time.Time{})
	}
	if errs.KindOf(err) != errs.NotFound {
		return err
	}
	_, err = s.insertToken(ctx, tx, APIToken{
		ID: ids.New(), OrganisationID: w.OrganisationID, WorkspaceID: w.ID, Name: "demo", Scopes: []string{ScopeAll},
		SecretHash: hashSecret(DemoToken),
	})
	return err
}

// stopDemo revokes credentials that everyone knows: this start may listen to everyone.
func (s *Service) stopDemo(ctx context.Context, tx Tx) error {
	now := s.now()
	k, _, err := tx.WriteKeys.Resolve(ctx, DemoWriteKey)
	if err == nil {
		err = s.setDemoKey(ctx, tx, k, now)
	}
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return err
	}
	t, _, err := tx.Tokens.Authenticate(ctx, hashSecret(DemoToken))
	if err == nil {
		err = s.setDemoToken(ctx, tx, t, now)
	}
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return err
	}
	return nil
}

// setDemoKey revokes the key, or with a zero time lets it work again.
func (s *Service) setDemoKey(ctx context.Context, tx Tx, k WriteKey, revokedAt time.Time) error {
	if k.RevokedAt.IsZero() == revokedAt.IsZero() {
		return nil
	}
	w, err := tx.Workspaces.Get(ctx, k.WorkspaceID)
	if err != nil {
		return err
	}
	k.RevokedAt = revokedAt
	k.Revision = nextRevision(k.Revision, s.now())
	if err := tx.WriteKeys.Update(ctx, k); err != nil {
		return err
	}
	action := "write_key.restore"
	if !revokedAt.IsZero() {
		action = "write_key.revoke"
	}
	return s.record(ctx, tx, w.did(action, "write_key", k.Key), Change{WriteKey: &k})
}

// setDemoToken revokes the token, or with a zero time lets it work again.
func (s *Service) setDemoToken(ctx context.Context, tx Tx, t APIToken, revokedAt time.Time) error {
	if t.RevokedAt.IsZero() == revokedAt.IsZero() {
		return nil
	}
	if err := tx.Tokens.SetRevoked(ctx, t.ID, revokedAt); err != nil {
		return err
	}
	if revokedAt.IsZero() {
		return s.record(ctx, tx, t.was("api_token.restore"))
	}
	return s.record(ctx, tx, t.was("api_token.revoke"))
}
