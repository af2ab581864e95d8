package activation

import (
	"context"
	"time"
)

// device is one device at one destination.
type device struct {
	destinationID string
	hash          deviceHash
}

// parking is one message that cannot be sent now.
type parking struct {
	WorkspaceID   string
	DestinationID string
	Device        deviceHash
	Partition     int32
	MessageID     string
	Value         []byte
	// Attempts is how often it was tried already.
	Attempts int
	// NextAttemptAt is when its device may be tried, if it is the first of its device to be parked.
	NextAttemptAt time.Time
}

// parkedMessage is a message as it waits.
type parkedMessage struct {
	Seq         int64
	WorkspaceID string
	MessageID   string
	Device      deviceHash
	Value       []byte
	Attempts    int
	ParkedAt    time.Time
}

// dueDevice is a device whose oldest message may be tried.
type dueDevice struct {
	WorkspaceID   string
	DestinationID string
	Device        deviceHash
	Partition     int32
	Attempts      int
}

// deadMessage is a message that is given up.
type deadMessage struct {
	parkedMessage
	Reason string
	Code   int
}

// settlement is what became of a destination's due devices.
type settlement struct {
	DestinationID string
	// Delivered and Dead leave the queue.
	Delivered []parkedMessage
	Dead      []deadMessage
	// Failed devices are tried again at their time; the first message of each has been tried once more.
	Failed []failedDevice
	// Tried are all devices that were taken.
	Tried []deviceHash
}

type failedDevice struct {
	Device        deviceHash
	NextAttemptAt time.Time
	// Seq is the message that failed, 0 when none was tried.
	Seq int64
}

// ParkedStore keeps what cannot be sent now. It is shared by all workspaces: only the engine itself uses it.
type ParkedStore interface {
	// Park appends messages, in order. A message that is parked already stays as it is. What is dead from the start goes
	// along in the same transaction.
	Park(ctx context.Context, messages []parking, dead []parkedDead) error
	// Devices returns every parked device of the partitions.
	Devices(ctx context.Context, partitions []int32) ([]dueDevice, error)
	// Due returns devices of a destination and partition whose time has come, the longest waiting first, and the earliest
	// time of those whose time has not (zero when there are none).
	Due(ctx context.Context, destinationID string, partition int32, now time.Time, limit int) ([]dueDevice, time.Time, error)
	// Messages returns the oldest messages of the devices of a destination, in order, at most perDevice of each.
	Messages(ctx context.Context, destinationID string, devices []deviceHash, perDevice int) ([]parkedMessage, error)
	// Settle applies what became of messages and returns the devices that have nothing parked any more.
	Settle(ctx context.Context, s settlement, now time.Time) (free []deviceHash, err error)
	// Hasten makes every parked device of a destination due now.
	Hasten(ctx context.Context, destinationID string, now time.Time) error
}

// parkedDead is a message refused for good on its first try.
type parkedDead struct {
	WorkspaceID, DestinationID, MessageID string
	Value                                 []byte
	Reason                                string
	Code                                  int
}
