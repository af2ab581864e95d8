package admin

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// installationTenant owns the messages that belong to no workspace.
const installationTenant = "00000000-0000-0000-0000-000000000000"

// outboxMessage is what waits in the outbox for the log.
type outboxMessage struct {
	topic, key, messageType string
	// tenantID is the workspace, else the organisation.
	tenantID string
	value    []byte
}

// changeMessage is the record of topic ConfigChanges for c.
func changeMessage(c Change) (outboxMessage, error) {
	m := outboxMessage{topic: stream.ConfigChanges, messageType: "mekong.admin.v1.ConfigChange"}
	event := &adminv1.ConfigChange{}
	switch {
	case c.Workspace != nil:
		m.key, m.tenantID = "workspace:"+c.Workspace.ID, c.Workspace.ID
		event.Revision = c.Workspace.Revision
		event.Change = &adminv1.ConfigChange_Workspace{Workspace: workspaceState(*c.Workspace)}
	case c.Source != nil:
		m.key, m.tenantID = "source:"+c.Source.ID, c.Source.WorkspaceID
		event.Revision = c.Source.Revision
		event.Change = &adminv1.ConfigChange_Source{Source: sourceState(*c.Source)}
	case c.WriteKey != nil:
		m.key, m.tenantID = "write_key:"+c.WriteKey.Key, c.WriteKey.WorkspaceID
		event.Revision = c.WriteKey.Revision
		event.Change = &adminv1.ConfigChange_WriteKey{WriteKey: writeKeyState(*c.WriteKey)}
	case !c.SnapshotCompleted.IsZero():
		m.key, m.tenantID = "snapshot_completed", installationTenant
		event.Revision = c.SnapshotCompleted.UnixMicro()
		event.Change = &adminv1.ConfigChange_SnapshotCompleted{
			SnapshotCompleted: &adminv1.SnapshotCompleted{CompletedAt: timestamppb.New(c.SnapshotCompleted)},
		}
	default:
		return m, errs.New(errs.Internal, "empty_change", "A change without content cannot be published.")
	}
	return m.with(event)
}

// auditMessage is the record of topic Audit for a.
func auditMessage(a AuditEntry) (outboxMessage, error) {
	m := outboxMessage{topic: stream.Audit, messageType: "mekong.admin.v1.AuditRecorded", tenantID: a.WorkspaceID}
	if m.tenantID == "" {
		m.tenantID = a.OrganisationID
	}
	m.key = m.tenantID
	return m.with(auditRecorded(a))
}

func (m outboxMessage) with(event proto.Message) (outboxMessage, error) {
	var err error
	m.value, err = proto.MarshalOptions{Deterministic: true}.Marshal(event)
	return m, err
}
