package admin

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
)

// timestamp leaves a zero time unset.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// timeOf reads an unset timestamp as the zero time.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func organisationProto(o Organisation) *adminv1.Organisation {
	return &adminv1.Organisation{OrganisationId: o.ID, Name: o.Name, CreatedAt: timestamp(o.CreatedAt)}
}

func workspaceProto(w Workspace) *adminv1.Workspace {
	return &adminv1.Workspace{
		WorkspaceId: w.ID, OrganisationId: w.OrganisationID, Slug: w.Slug, Name: w.Name, TimeZone: w.TimeZone,
		Currency: w.Currency, CreatedAt: timestamp(w.CreatedAt),
	}
}

func sourceProto(s SourceWithKeys) *adminv1.Source {
	return &adminv1.Source{
		WorkspaceId: s.WorkspaceID, SourceId: s.ID, Name: s.Name, Type: s.Type, Enabled: s.Enabled, Origins: s.Origins,
		WriteKeys: listOf(s.WriteKeys, writeKeyProto), Revision: s.Revision, CreatedAt: timestamp(s.CreatedAt),
	}
}

func writeKeyProto(k WriteKey) *adminv1.WriteKey {
	return &adminv1.WriteKey{WriteKey: k.Key, CreatedAt: timestamp(k.CreatedAt), ExpiresAt: timestamp(k.ExpiresAt)}
}

func tokenProto(t APIToken) *adminv1.ApiToken {
	return &adminv1.ApiToken{
		TokenId: t.ID, Name: t.Name, Scopes: t.Scopes, WorkspaceId: t.WorkspaceID, CreatedAt: timestamp(t.CreatedAt),
		ExpiresAt: timestamp(t.ExpiresAt), LastUsedAt: timestamp(t.LastUsedAt),
	}
}

func auditProto(a AuditEntry) *adminv1.AuditEntry {
	return &adminv1.AuditEntry{
		AuditId: a.ID, WorkspaceId: a.WorkspaceID, Actor: a.Actor, Action: a.Action, Target: a.Target, At: timestamp(a.At),
		RequestId: a.RequestID,
	}
}

func auditRecorded(a AuditEntry) *adminv1.AuditRecorded {
	return &adminv1.AuditRecorded{
		AuditId: a.ID, OrganisationId: a.OrganisationID, WorkspaceId: a.WorkspaceID, Actor: a.Actor, Action: a.Action,
		Target: a.Target, At: timestamp(a.At), RequestId: a.RequestID,
	}
}

func auditEntry(a *adminv1.AuditRecorded) AuditEntry {
	return AuditEntry{
		ID: a.GetAuditId(), OrganisationID: a.GetOrganisationId(), WorkspaceID: a.GetWorkspaceId(), Actor: a.GetActor(),
		Action: a.GetAction(), Target: a.GetTarget(), At: timeOf(a.GetAt()), RequestID: a.GetRequestId(),
	}
}

func workspaceState(w Workspace) *adminv1.WorkspaceState {
	return &adminv1.WorkspaceState{WorkspaceId: w.ID, OrganisationId: w.OrganisationID}
}

func sourceState(s Source) *adminv1.SourceState {
	return &adminv1.SourceState{
		WorkspaceId: s.WorkspaceID, SourceId: s.ID, Type: s.Type, Enabled: s.Enabled, Origins: s.Origins, Deleted: s.Deleted(),
	}
}

func writeKeyState(k WriteKey) *adminv1.WriteKeyState {
	return &adminv1.WriteKeyState{
		WorkspaceId: k.WorkspaceID, SourceId: k.SourceID, WriteKey: k.Key, ExpiresAt: timestamp(k.ExpiresAt),
		Revoked: !k.RevokedAt.IsZero(),
	}
}

func listOf[D, P any](items []D, convert func(D) P) []P {
	out := make([]P, len(items))
	for i, item := range items {
		out[i] = convert(item)
	}
	return out
}
