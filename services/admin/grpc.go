package admin

import (
	"context"
	"math"
	"time"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// server is the gRPC door; REST comes to it through the gateway.
type server struct {
	adminv1.UnimplementedAdminServiceServer
	service *Service
}

func newServer(service *Service) *server { return &server{service: service} }

func (s *server) CreateWorkspace(ctx context.Context, in *adminv1.CreateWorkspaceRequest) (*adminv1.CreateWorkspaceResponse, error) {
	w, err := s.service.CreateWorkspace(ctx, CreateWorkspaceInput{
		Slug: in.GetSlug(), Name: in.GetName(), TimeZone: in.GetTimeZone(), Currency: in.GetCurrency(),
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateWorkspaceResponse{Workspace: workspaceProto(w)}, nil
}

func (s *server) ListWorkspaces(ctx context.Context, _ *adminv1.ListWorkspacesRequest) (*adminv1.ListWorkspacesResponse, error) {
	found, err := s.service.ListWorkspaces(ctx)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListWorkspacesResponse{Workspaces: listOf(found, workspaceProto)}, nil
}

func (s *server) GetWorkspace(ctx context.Context, in *adminv1.GetWorkspaceRequest) (*adminv1.GetWorkspaceResponse, error) {
	w, err := s.service.GetWorkspace(ctx, in.GetWorkspaceId())
	if err != nil {
		return nil, err
	}
	return &adminv1.GetWorkspaceResponse{Workspace: workspaceProto(w)}, nil
}

func (s *server) UpdateWorkspaceSettings(
	ctx context.Context, in *adminv1.UpdateWorkspaceSettingsRequest,
) (*adminv1.UpdateWorkspaceSettingsResponse, error) {
	w, err := s.service.UpdateWorkspaceSettings(ctx, UpdateWorkspaceSettingsInput{
		WorkspaceID: in.GetWorkspaceId(), Name: in.Name, TimeZone: in.TimeZone, Currency: in.Currency,
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.UpdateWorkspaceSettingsResponse{Workspace: workspaceProto(w)}, nil
}

func (s *server) GetOrganisation(ctx context.Context, _ *adminv1.GetOrganisationRequest) (*adminv1.GetOrganisationResponse, error) {
	o, err := s.service.GetOrganisation(ctx)
	if err != nil {
		return nil, err
	}
	return &adminv1.GetOrganisationResponse{Organisation: organisationProto(o)}, nil
}

func (s *server) CreateSource(ctx context.Context, in *adminv1.CreateSourceRequest) (*adminv1.CreateSourceResponse, error) {
	source, err := s.service.CreateSource(ctx, CreateSourceInput{
		WorkspaceID: in.GetWorkspaceId(), Name: in.GetName(), Type: in.GetType(), Origins: in.GetOrigins(),
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateSourceResponse{Source: sourceProto(source)}, nil
}

func (s *server) ListSources(ctx context.Context, in *adminv1.ListSourcesRequest) (*adminv1.ListSourcesResponse, error) {
	found, err := s.service.ListSources(ctx, in.GetWorkspaceId())
	if err != nil {
		return nil, err
	}
	return &adminv1.ListSourcesResponse{Sources: listOf(found, sourceProto)}, nil
}

func (s *server) GetSource(ctx context.Context, in *adminv1.GetSourceRequest) (*adminv1.GetSourceResponse, error) {
	source, err := s.service.GetSource(ctx, in.GetWorkspaceId(), in.GetSourceId())
	if err != nil {
		return nil, err
	}
	return &adminv1.GetSourceResponse{Source: sourceProto(source)}, nil
}

func (s *server) UpdateSource(ctx context.Context, in *adminv1.UpdateSourceRequest) (*adminv1.UpdateSourceResponse, error) {
	update := UpdateSourceInput{WorkspaceID: in.GetWorkspaceId(), SourceID: in.GetSourceId(), Name: in.Name, Enabled: in.Enabled}
	if in.GetOrigins() != nil {
		origins := in.GetOrigins().GetValues()
		update.Origins = &origins
	}
	source, err := s.service.UpdateSource(ctx, update)
	if err != nil {
		return nil, err
	}
	return &adminv1.UpdateSourceResponse{Source: sourceProto(source)}, nil
}

func (s *server) DeleteSource(ctx context.Context, in *adminv1.DeleteSourceRequest) (*adminv1.DeleteSourceResponse, error) {
	if err := s.service.DeleteSource(ctx, in.GetWorkspaceId(), in.GetSourceId()); err != nil {
		return nil, err
	}
	return &adminv1.DeleteSourceResponse{}, nil
}

func (s *server) CreateWriteKey(ctx context.Context, in *adminv1.CreateWriteKeyRequest) (*adminv1.CreateWriteKeyResponse, error) {
	key := CreateWriteKeyInput{WorkspaceID: in.GetWorkspaceId(), SourceID: in.GetSourceId()}
	if in.RotateAfterS != nil {
		after := seconds(in.GetRotateAfterS())
		key.RotateAfter = &after
	}
	k, err := s.service.CreateWriteKey(ctx, key)
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateWriteKeyResponse{WriteKey: writeKeyProto(k)}, nil
}

// seconds holds at the longest duration instead of turning around.
func seconds(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Second)
	return time.Duration(min(max(n, -most), most)) * time.Second
}

func (s *server) RevokeWriteKey(ctx context.Context, in *adminv1.RevokeWriteKeyRequest) (*adminv1.RevokeWriteKeyResponse, error) {
	if err := s.service.RevokeWriteKey(ctx, in.GetWorkspaceId(), in.GetSourceId(), in.GetWriteKey()); err != nil {
		return nil, err
	}
	return &adminv1.RevokeWriteKeyResponse{}, nil
}

func (s *server) ResolveWriteKey(ctx context.Context, in *adminv1.ResolveWriteKeyRequest) (*adminv1.ResolveWriteKeyResponse, error) {
	k, source, err := s.service.ResolveWriteKey(ctx, in.GetWriteKey())
	if err != nil {
		return nil, err
	}
	return &adminv1.ResolveWriteKeyResponse{
		WriteKey: writeKeyState(k), Source: sourceState(source), WriteKeyRevision: k.Revision, SourceRevision: source.Revision,
	}, nil
}

func (s *server) AuthenticateToken(
	ctx context.Context, in *adminv1.AuthenticateTokenRequest,
) (*adminv1.AuthenticateTokenResponse, error) {
	t, workspaces, err := s.service.AuthenticateToken(ctx, in.GetToken())
	if err != nil {
		return nil, err
	}
	return &adminv1.AuthenticateTokenResponse{
		TokenId: t.ID, OrganisationId: t.OrganisationID, WorkspaceId: t.WorkspaceID, Scopes: t.Scopes, WorkspaceIds: workspaces,
	}, nil
}

func (s *server) RecordAudit(ctx context.Context, in *adminv1.RecordAuditRequest) (*adminv1.RecordAuditResponse, error) {
	if in.GetEntry() == nil {
		return nil, errs.New(errs.Invalid, "invalid_audit_entry", "entry: must be given")
	}
	if err := s.service.RecordAudit(ctx, auditEntry(in.GetEntry())); err != nil {
		return nil, err
	}
	return &adminv1.RecordAuditResponse{}, nil
}

func (s *server) CreateApiToken(
	ctx context.Context, in *adminv1.CreateApiTokenRequest,
) (*adminv1.CreateApiTokenResponse, error) {
	t, secret, err := s.service.CreateAPIToken(ctx, CreateAPITokenInput{
		Name: in.GetName(), Scopes: in.GetScopes(), WorkspaceID: in.GetWorkspaceId(), ExpiresAt: timeOf(in.GetExpiresAt()),
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateApiTokenResponse{Token: tokenProto(t), Secret: secret}, nil
}

func (s *server) ListApiTokens(
	ctx context.Context, _ *adminv1.ListApiTokensRequest,
) (*adminv1.ListApiTokensResponse, error) {
	found, err := s.service.ListAPITokens(ctx)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListApiTokensResponse{Tokens: listOf(found, tokenProto)}, nil
}

func (s *server) RevokeApiToken(
	ctx context.Context, in *adminv1.RevokeApiTokenRequest,
) (*adminv1.RevokeApiTokenResponse, error) {
	if err := s.service.RevokeAPIToken(ctx, in.GetTokenId()); err != nil {
		return nil, err
	}
	return &adminv1.RevokeApiTokenResponse{}, nil
}

func (s *server) ListAuditEntries(ctx context.Context, in *adminv1.ListAuditEntriesRequest) (*adminv1.ListAuditEntriesResponse, error) {
	entries, next, err := s.service.ListAuditEntries(ctx, ListAuditEntriesInput{
		WorkspaceID: in.GetWorkspaceId(), PageSize: int(in.GetPageSize()), PageToken: in.GetPageToken(),
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.ListAuditEntriesResponse{Entries: listOf(entries, auditProto), NextPageToken: next}, nil
}
