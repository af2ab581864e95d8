package activation

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// adminAudit writes to the audit log, which admin owns.
type adminAudit struct {
	admin adminv1.AdminServiceClient
	clock clock.Clock
}

// Record implements Auditor.
func (a adminAudit) Record(ctx context.Context, p tenant.Principal, workspaceID, action, target string) error {
	_, err := a.admin.RecordAudit(ctx, &adminv1.RecordAuditRequest{Entry: &adminv1.AuditRecorded{
		AuditId: ids.New(), OrganisationId: p.OrganisationID, WorkspaceId: workspaceID, Actor: p.Actor(), Action: action, Target: target,
		At: timestamppb.New(a.clock.Now()), RequestId: rpc.RequestID(ctx),
	}})
	return err
}
