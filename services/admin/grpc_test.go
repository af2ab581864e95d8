package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	gwruntime "github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// door serves admin as a process does: real authentication, error mapping and marshalling.
type door struct {
	adminv1.AdminServiceClient
	// internal calls as another service of the installation.
	internal adminv1.AdminServiceClient
	conn     *grpc.ClientConn
	service  *Service
	owner    string
}

// Authenticate makes the service the authenticator of its own door.
func (d *door) Authenticate(ctx context.Context, token string) (tenant.Principal, error) {
	t, workspaces, err := d.service.AuthenticateToken(asService(ctx), token)
	return tenant.Principal{
		TokenID: t.ID, OrganisationID: t.OrganisationID, WorkspaceIDs: workspaces, Scopes: t.Scopes, WholeOrganisation: t.WorkspaceID == "",
	}, err
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{service: newService(t, NewMemoryStore())}
	d.service.requestID = rpc.RequestID
	boot, err := d.service.Bootstrap(t.Context(), BootstrapInput{Demo: true})
	require.NoError(t, err)
	d.owner = boot.OwnerToken.Reveal()
	cfg := rpc.DefaultConfig()
	cfg.Listen, cfg.ServiceToken = "127.0.0.1:0", "of-the-services"
	server, err := rpc.NewServer(cfg, slog.New(slog.DiscardHandler), adminv1.AdminService_ServiceDesc.ServiceName)
	require.NoError(t, err)
	server.SetAuthenticator(d)
	adminv1.RegisterAdminServiceServer(server, newServer(d.service))
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- server.Runner().Run(ctx, func() { close(started) }) }()
	<-started
	d.conn, err = server.DialMemory("")
	require.NoError(t, err)
	inside, err := server.DialMemory(cfg.ServiceToken)
	require.NoError(t, err)
	d.internal = adminv1.NewAdminServiceClient(inside)
	d.AdminServiceClient = adminv1.NewAdminServiceClient(d.conn)
	t.Cleanup(func() {
		require.NoError(t, d.conn.Close())
		require.NoError(t, inside.Close())
		cancel()
		require.NoError(t, <-ended)
	})
	return d
}

func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token, rpc.RequestIDHeader, "req-9")
}

func TestContract(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	ctx := bearer(t.Context(), d.owner)

	// given a workspace
	_, err := d.CreateWorkspace(t.Context(), &adminv1.CreateWorkspaceRequest{Slug: "shop", Name: "Shop"})
	require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
	_, err = d.CreateWorkspace(ctx, &adminv1.CreateWorkspaceRequest{Slug: "Shop"})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	require.Contains(t, errs.MessageOf(err), "name: must not be empty; slug:")
	created, err := d.CreateWorkspace(ctx, &adminv1.CreateWorkspaceRequest{Slug: "shop", Name: "Shop"})
	require.NoError(t, err)
	w := created.GetWorkspace().GetWorkspaceId()
	_, err = d.CreateWorkspace(ctx, &adminv1.CreateWorkspaceRequest{Slug: "shop", Name: "Shop"})
	require.Equal(t, "slug_taken", errs.CodeOf(err))
	name := "Renamed"
	updated, err := d.UpdateWorkspaceSettings(ctx, &adminv1.UpdateWorkspaceSettingsRequest{WorkspaceId: w, Name: &name})
	require.NoError(t, err)
	require.Equal(t, "Renamed", updated.GetWorkspace().GetName())
	got, err := d.GetWorkspace(ctx, &adminv1.GetWorkspaceRequest{WorkspaceId: "shop"})
	require.NoError(t, err)
	require.Equal(t, "VND", got.GetWorkspace().GetCurrency())
	list, err := d.ListWorkspaces(ctx, &adminv1.ListWorkspacesRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetWorkspaces(), 2)
	o, err := d.GetOrganisation(ctx, &adminv1.GetOrganisationRequest{})
	require.NoError(t, err)
	require.Equal(t, o.GetOrganisation().GetOrganisationId(), got.GetWorkspace().GetOrganisationId())

	// when a source lives its life
	source, err := d.CreateSource(ctx, &adminv1.CreateSourceRequest{WorkspaceId: w, Name: "web", Type: "web", Origins: []string{"https://a.example"}})
	require.NoError(t, err)
	id, first := source.GetSource().GetSourceId(), source.GetSource().GetWriteKeys()[0].GetWriteKey()
	off := false
	changed, err := d.UpdateSource(ctx, &adminv1.UpdateSourceRequest{WorkspaceId: w, SourceId: id, Enabled: &off})
	require.NoError(t, err)
	require.Equal(t, []string{"https://a.example"}, changed.GetSource().GetOrigins(), "not given: not changed")
	changed, err = d.UpdateSource(ctx, &adminv1.UpdateSourceRequest{WorkspaceId: w, SourceId: id, Origins: &adminv1.OriginList{}})
	require.NoError(t, err)
	require.Empty(t, changed.GetSource().GetOrigins(), "given and empty: emptied")
	for _, wrong := range []int64{-1, 1 << 40, -1 << 63, 1<<63 - 1} {
		_, err = d.CreateWriteKey(ctx, &adminv1.CreateWriteKeyRequest{WorkspaceId: w, SourceId: id, RotateAfterS: &wrong})
		require.Equal(t, "invalid_write_key", errs.CodeOf(err))
	}
	hour := int64(3600)
	second, err := d.CreateWriteKey(ctx, &adminv1.CreateWriteKeyRequest{WorkspaceId: w, SourceId: id, RotateAfterS: &hour})
	require.NoError(t, err)
	fetched, err := d.GetSource(ctx, &adminv1.GetSourceRequest{WorkspaceId: w, SourceId: id})
	require.NoError(t, err)
	require.Len(t, fetched.GetSource().GetWriteKeys(), 2)
	for _, k := range fetched.GetSource().GetWriteKeys() {
		require.Equal(t, k.GetWriteKey() == first, k.GetExpiresAt() != nil)
	}
	_, err = d.RevokeWriteKey(ctx, &adminv1.RevokeWriteKeyRequest{WorkspaceId: w, SourceId: id, WriteKey: second.GetWriteKey().GetWriteKey()})
	require.NoError(t, err)
	_, err = d.DeleteSource(ctx, &adminv1.DeleteSourceRequest{WorkspaceId: w, SourceId: id})
	require.NoError(t, err)
	sources, err := d.ListSources(ctx, &adminv1.ListSourcesRequest{WorkspaceId: w})
	require.NoError(t, err)
	require.Empty(t, sources.GetSources())

	// then the audit log has it, newest first, with request and caller
	var actions []string
	token := ""
	for {
		page, err := d.ListAuditEntries(ctx, &adminv1.ListAuditEntriesRequest{WorkspaceId: w, PageSize: 2, PageToken: token})
		require.NoError(t, err)
		for _, entry := range page.GetEntries() {
			require.Equal(t, "req-9", entry.GetRequestId())
			require.Regexp(t, "^token:", entry.GetActor())
			actions = append(actions, entry.GetAction())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.ElementsMatch(t, []string{
		"source.delete", "write_key.revoke", "write_key.rotate", "source.update", "source.update", "source.create",
		"workspace.update", "workspace.create",
	}, actions)
}

func TestTokenContract(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	ctx := bearer(t.Context(), d.owner)
	expires := timestamppb.New(start.Add(time.Hour))
	made, err := d.CreateApiToken(ctx, &adminv1.CreateApiTokenRequest{Name: "ci", Scopes: []string{"tokens:write"}, ExpiresAt: expires})
	require.NoError(t, err)
	require.Equal(t, expires.AsTime(), made.GetToken().GetExpiresAt().AsTime())
	weak := bearer(t.Context(), made.GetSecret())
	_, err = d.ListWorkspaces(weak, &adminv1.ListWorkspacesRequest{})
	require.Equal(t, "missing_scope", errs.CodeOf(err))
	_, err = d.CreateApiToken(weak, &adminv1.CreateApiTokenRequest{Name: "more", Scopes: []string{"*"}})
	require.Equal(t, "scope_not_held", errs.CodeOf(err))
	list, err := d.ListApiTokens(weak, &adminv1.ListApiTokensRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetTokens(), 3)
	_, err = d.RevokeApiToken(ctx, &adminv1.RevokeApiTokenRequest{TokenId: made.GetToken().GetTokenId()})
	require.NoError(t, err)
	_, err = d.RevokeApiToken(ctx, &adminv1.RevokeApiTokenRequest{TokenId: made.GetToken().GetTokenId()})
	require.Equal(t, errs.NotFound, errs.KindOf(err))

	// The doors between services refuse even the owner.
	_, err = d.AuthenticateToken(ctx, &adminv1.AuthenticateTokenRequest{Token: d.owner})
	require.Equal(t, "internal_only", errs.CodeOf(err))
	_, err = d.ResolveWriteKey(ctx, &adminv1.ResolveWriteKeyRequest{WriteKey: DemoWriteKey})
	require.Equal(t, "internal_only", errs.CodeOf(err))
	_, err = d.RecordAudit(ctx, &adminv1.RecordAuditRequest{})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
}

func TestInternalContract(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	s, ctx := d.internal, t.Context()
	who, err := s.AuthenticateToken(ctx, &adminv1.AuthenticateTokenRequest{Token: DemoToken})
	require.NoError(t, err)
	require.Equal(t, []string{who.GetWorkspaceId()}, who.GetWorkspaceIds())
	key, err := s.ResolveWriteKey(ctx, &adminv1.ResolveWriteKeyRequest{WriteKey: DemoWriteKey})
	require.NoError(t, err)
	require.Equal(t, who.GetWorkspaceId(), key.GetSource().GetWorkspaceId())
	require.True(t, key.GetSource().GetEnabled())
	require.False(t, key.GetWriteKey().GetRevoked())
	require.Positive(t, key.GetWriteKeyRevision())
	_, err = s.RecordAudit(ctx, &adminv1.RecordAuditRequest{Entry: &adminv1.AuditRecorded{
		AuditId: ids.New(), OrganisationId: who.GetOrganisationId(), WorkspaceId: who.GetWorkspaceId(), Actor: "system",
		Action: "destination.create", Target: "destination:x", At: timestamppb.New(start),
	}})
	require.NoError(t, err)
}

func TestREST(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	mux := gwruntime.NewServeMux()
	require.NoError(t, RegisterREST(t.Context(), mux, d.conn))
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	call := func(method, path, body string) map[string]any {
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+d.owner)
		resp, err := web.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, string(text))
		var out map[string]any
		require.NoError(t, json.Unmarshal(text, &out))
		return out
	}
	w := call(http.MethodPost, "/api/v1/workspaces", `{"slug":"shop","name":"Shop"}`)["workspace"].(map[string]any)
	path := "/api/v1/workspaces/" + w["workspaceId"].(string) + "/sources"
	source := call(http.MethodPost, path, `{"name":"web","type":"web"}`)["source"].(map[string]any)
	patched := call(http.MethodPatch, path+"/"+source["sourceId"].(string), `{"enabled":false}`)["source"].(map[string]any)
	require.Equal(t, false, patched["enabled"])
	require.Len(t, call(http.MethodGet, path, "")["sources"], 1)
}
