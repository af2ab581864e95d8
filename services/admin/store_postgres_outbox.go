package admin

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres/outbox"
)

const schemaVersion = "1"

func outboxTable() outbox.Table { return outbox.Table{Schema: "admin"} }

type pgOutbox struct{ tx pgx.Tx }

func (s pgOutbox) Changed(ctx context.Context, changes ...Change) error {
	rows := make([]outbox.Row, 0, len(changes))
	for _, c := range changes {
		m, err := changeMessage(c)
		if err != nil {
			return err
		}
		rows = append(rows, m.row())
	}
	return outboxTable().Append(ctx, s.tx, rows...)
}

func (s pgOutbox) Recorded(ctx context.Context, a AuditEntry) error {
	m, err := auditMessage(a)
	if err != nil {
		return err
	}
	return outboxTable().Append(ctx, s.tx, m.row())
}

func (s pgOutbox) Waiting(ctx context.Context, c Change) (waiting bool, err error) {
	m, err := changeMessage(c)
	if err != nil {
		return false, err
	}
	err = s.tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM admin.outbox WHERE topic = $1 AND key = $2 AND value = $3)",
		m.topic, []byte(m.key), m.value).Scan(&waiting)
	return waiting, err
}

func (m outboxMessage) row() outbox.Row {
	return outbox.Row{
		WorkspaceID: m.tenantID, Topic: m.topic, Key: []byte(m.key), Value: m.value,
		Headers: map[string]string{
			kafka.HeaderWorkspace: m.tenantID, kafka.HeaderMessageType: m.messageType, kafka.HeaderSchemaVersion: schemaVersion,
		},
	}
}
