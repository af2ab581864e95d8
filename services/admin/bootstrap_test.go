package admin

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func asService(ctx context.Context) context.Context {
	return tenant.With(ctx, tenant.Principal{Service: true})
}

func TestFirstStartMakesOneOwnerToken(t *testing.T) {
	t.Parallel()
	s := newService(t, NewMemoryStore())
	first, err := s.Bootstrap(t.Context(), BootstrapInput{})
	require.NoError(t, err)
	require.NotEmpty(t, first.OwnerToken)
	require.Empty(t, first.DemoWorkspaceID)
	token, workspaces, err := s.AuthenticateToken(asService(t.Context()), first.OwnerToken.Reveal())
	require.NoError(t, err)
	require.Empty(t, workspaces)
	require.Empty(t, token.WorkspaceID)
	require.Equal(t, []string{ScopeAll}, token.Scopes)
	_, _, err = s.AuthenticateToken(asService(t.Context()), DemoToken)
	require.Equal(t, errs.Unauthenticated, errs.KindOf(err), "no default password")

	again, err := s.Bootstrap(t.Context(), BootstrapInput{})
	require.NoError(t, err)
	require.Equal(t, BootstrapResult{}, again)
	o, err := s.GetOrganisation(asService(t.Context()))
	require.NoError(t, err)
	require.Equal(t, token.OrganisationID, o.ID)
}

// `mekong token create` acts as a service: for the only organisation there is.
func TestTheServicesActForTheOnlyOrganisation(t *testing.T) {
	t.Parallel()
	s := newService(t, NewMemoryStore())
	ctx := asService(t.Context())
	_, _, err := s.CreateAPIToken(ctx, CreateAPITokenInput{Name: "cli", Scopes: []string{ScopeAll}})
	require.Equal(t, "no_organisation", errs.CodeOf(err))
	boot, err := s.Bootstrap(ctx, BootstrapInput{Demo: true})
	require.NoError(t, err)
	for _, workspaceID := range []string{"", boot.DemoWorkspaceID} {
		made, secret, err := s.CreateAPIToken(ctx, CreateAPITokenInput{Name: "cli", Scopes: []string{ScopeAll}, WorkspaceID: workspaceID})
		require.NoError(t, err)
		token, workspaces, err := s.AuthenticateToken(ctx, secret)
		require.NoError(t, err)
		require.Equal(t, []string{boot.DemoWorkspaceID}, workspaces)
		require.Equal(t, workspaceID, token.WorkspaceID)
		require.NoError(t, s.RevokeAPIToken(ctx, made.ID))
	}
	found, err := s.ListAPITokens(ctx)
	require.NoError(t, err)
	require.Len(t, found, 2)
}

func TestDemoCredentialsWorkOnlyInADemo(t *testing.T) {
	t.Parallel()
	s := newService(t, NewMemoryStore())
	ctx := asService(t.Context())
	accepted := func() (key, token bool) {
		k, source, err := s.ResolveWriteKey(ctx, DemoWriteKey)
		require.NoError(t, err)
		require.Equal(t, "Demo shop", source.Name)
		require.Equal(t, SourceWeb, source.Type)
		_, _, err = s.AuthenticateToken(ctx, DemoToken)
		return k.Accepted(start), err == nil
	}
	first, err := s.Bootstrap(ctx, BootstrapInput{Demo: true})
	require.NoError(t, err)
	require.True(t, first.DemoCreated)
	require.NotEmpty(t, first.OwnerToken)
	key, token := accepted()
	require.True(t, key && token)
	w, err := s.GetWorkspace(ctx, DemoSlug)
	require.NoError(t, err)
	require.Equal(t, []string{first.DemoWorkspaceID, "VND", "Asia/Ho_Chi_Minh"}, []string{w.ID, w.Currency, w.TimeZone})
	_, workspaces, err := s.AuthenticateToken(ctx, DemoToken)
	require.NoError(t, err)
	require.Equal(t, []string{w.ID}, workspaces)
	before, _, err := s.ResolveWriteKey(ctx, DemoWriteKey)
	require.NoError(t, err)

	// when it is started as no demo, perhaps open to everyone
	result, err := s.Bootstrap(ctx, BootstrapInput{})
	require.NoError(t, err)
	require.Equal(t, BootstrapResult{}, result)
	key, token = accepted()
	require.False(t, key || token)

	// then the next demo has them back, and readers take the newer state
	result, err = s.Bootstrap(ctx, BootstrapInput{Demo: true})
	require.NoError(t, err)
	require.Equal(t, BootstrapResult{DemoWorkspaceID: w.ID}, result)
	key, token = accepted()
	require.True(t, key && token)
	after, _, err := s.ResolveWriteKey(ctx, DemoWriteKey)
	require.NoError(t, err)
	require.Greater(t, after.Revision, before.Revision+1)
}

func TestDemoAfterAnEmptyStart(t *testing.T) {
	t.Parallel()
	s := newService(t, NewMemoryStore())
	_, err := s.Bootstrap(t.Context(), BootstrapInput{})
	require.NoError(t, err)
	result, err := s.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err)
	require.True(t, result.DemoCreated)
	require.Empty(t, result.OwnerToken)
}

func TestInstancesThatStartTogetherMakeOneOrganisation(t *testing.T) {
	t.Parallel()
	db := testkit.PostgresDB(t, Migrations())
	const instances = 4
	results, failures := make([]BootstrapResult, instances), make([]error, instances)
	var wg sync.WaitGroup
	for i := range instances {
		s := newService(t, NewPostgresStore(db))
		wg.Go(func() { results[i], failures[i] = s.Bootstrap(t.Context(), BootstrapInput{Demo: true}) })
	}
	wg.Wait()
	owners, created := 0, 0
	for i := range instances {
		require.NoError(t, failures[i])
		require.Equal(t, results[0].DemoWorkspaceID, results[i].DemoWorkspaceID)
		if results[i].OwnerToken != "" {
			owners++
		}
		if results[i].DemoCreated {
			created++
		}
	}
	require.Equal(t, []int{1, 1}, []int{owners, created})
}
