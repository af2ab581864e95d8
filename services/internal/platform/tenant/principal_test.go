package tenant_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

func TestAuthorize(t *testing.T) {
	t.Parallel()
	ann := tenant.Principal{TokenID: "ann", WorkspaceIDs: []string{"w1"}, Scopes: []string{"sources:write", "audit:read"}}
	for name, tc := range map[string]struct {
		who              tenant.Principal
		scope, workspace string
		code             string
	}{
		"write includes read":         {ann, "sources:read", "w1", ""},
		"read does not include write": {ann, "audit:write", "w1", "missing_scope"},
		"another workspace":           {ann, "sources:read", "w2", "workspace_not_found"},
		"a service":                   {tenant.Principal{Service: true}, "sources:write", "w2", ""},
		"everything in one workspace": {tenant.Principal{Scopes: []string{"*"}, WorkspaceIDs: []string{"w1"}}, "x:write", "w1", ""},
		"everything elsewhere":        {tenant.Principal{Scopes: []string{"*"}, WorkspaceIDs: []string{"w1"}}, "x:write", "w2", "workspace_not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tenant.Authorize(tenant.With(t.Context(), tc.who), tc.scope, tc.workspace)
			if tc.code == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, tc.code, errs.CodeOf(err))
		})
	}
	_, err := tenant.Authorize(t.Context(), "sources:read", "w1")
	require.Equal(t, "unauthenticated", errs.CodeOf(err))
}

func TestARememberedPrincipalIsAskedAgainForANewWorkspace(t *testing.T) {
	t.Parallel()
	known := tenant.Principal{WholeOrganisation: true, Scopes: []string{"sources:read"}, WorkspaceIDs: []string{"w1"}}
	asked := 0
	remembered := known.WithRefresh(func(context.Context) (tenant.Principal, error) {
		asked++
		fresh := known
		fresh.WorkspaceIDs = []string{"w1", "w2"}
		return fresh, nil
	})
	ctx := tenant.With(t.Context(), remembered)
	_, err := tenant.Authorize(ctx, "sources:read", "w1")
	require.NoError(t, err)
	require.Zero(t, asked)
	_, err = tenant.Authorize(ctx, "sources:read", "w2")
	require.NoError(t, err)
	_, err = tenant.Authorize(ctx, "sources:read", "w3")
	require.Equal(t, "workspace_not_found", errs.CodeOf(err))
}
