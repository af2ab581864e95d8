package identity

import (
	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

// NewEventForTest makes an event as the consumer does.
func NewEventForTest(workspaceID, eventID, userID, anonymousID string, offset int64) Event {
	e, err := newEvent(eventFields{workspaceID: workspaceID, eventID: eventID, userID: userID, anonymousID: anonymousID}, offset)
	if err != nil {
		panic(err)
	}
	return e
}

// NewPostgresStoreForTest wires the store as the module does.
func NewPostgresStoreForTest(db *postgres.DB) *PostgresStore {
	return NewPostgresStore(db, clock.Real(), changeRow)
}
