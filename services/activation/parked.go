package activation

import (
	"context"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// claim is the right to change what is parked of a partition. Whoever takes the partition last has it: an instance that
// has lost the partition without knowing can change nothing any more.
type claim struct {
	Partition int32
	Epoch     int64
}

// takenPartition is a partition with the devices that have parked messages, by destination.
type takenPartition struct {
	claim
	Blocked map[string][]deviceHash
}

// parking is what one destination cannot get now.
type parking struct {
	WorkspaceID   string
	DestinationID string
	// Messages are in the order of the log.
	Messages []parkingMessage
	// Dead were refused for good on their first try.
	Dead []deadMessage
	At   time.Time
}

type parkingMessage struct {
	MessageID string
	Device    deviceHash
	Value     []byte
	// Attempts is how often it was tried already.
	Attempts int
	// NextAttemptAt is when its device may be tried, if it is the first of its device to be parked.
	NextAttemptAt time.Time
}

// parkedMessage is a message as it waits.
type parkedMessage struct {
	Seq       int64
	MessageID string
	Device    deviceHash
	Value     []byte
	Attempts  int
	ParkedAt  time.Time
}

// dueDevice is a device whose oldest message may be tried. Attempts counts its failures in a row.
type dueDevice struct {
	Device   deviceHash
	Attempts int
}

// loadLimit bounds what is taken to memory at a time.
type loadLimit struct {
	Devices, Messages int
	// Bytes bounds the values; one message is always taken.
	Bytes int
}

// perDevice spreads the messages over so many devices.
func (l loadLimit) perDevice(devices int) int {
	return min(max(l.Messages/max(devices, 1), 2), 100)
}

// load is what a destination may be sent now.
type load struct {
	Devices []dueDevice
	// Messages are the oldest of each device, in order.
	Messages []parkedMessage
	// Next is the earliest time of a device that is not due yet, zero when there is none.
	Next time.Time
}

// deadMessage is a message that is given up.
type deadMessage struct {
	MessageID string
	Value     []byte
	Attempts  int
	Reason    string
	Code      int
}

// settlement is what became of a destination's due devices.
type settlement struct {
	WorkspaceID   string
	DestinationID string
	// Delivered and Dead leave the queue.
	Delivered []string
	Dead      []deadMessage
	// Failed have been tried once more.
	Failed []string
	// Taken are the devices that were loaded: those with nothing left are free.
	Taken []deviceHash
	// Again says when devices that have more are due.
	Again []againDevice
	At    time.Time
}

type againDevice struct {
	Device        deviceHash
	NextAttemptAt time.Time
	// Attempts is how often the device has failed in a row.
	Attempts int
}

// ParkedStore keeps what cannot be sent now. It is shared by all workspaces: only the engine itself uses it. Changes
// under a claim that another instance has taken over return Unavailable "partition_taken" and change nothing.
type ParkedStore interface {
	// Take claims partitions and returns what is parked of them. It waits for changes under older claims.
	Take(ctx context.Context, partitions []int32) ([]takenPartition, error)
	// Park appends messages. One that is parked or dead already stays as it is.
	Park(ctx context.Context, c claim, p parking) error
	// Load returns what is due of a destination, the longest waiting devices first.
	Load(ctx context.Context, c claim, destinationID string, now time.Time, limit loadLimit) (load, error)
	// Settle applies what became of messages and returns the devices that have nothing parked any more.
	Settle(ctx context.Context, c claim, s settlement) (free []deviceHash, err error)
	// Hasten makes every parked device of a destination in the partition due now.
	Hasten(ctx context.Context, c claim, destinationID string, now time.Time) error
	// Purge removes what is parked for a destination that does not exist any more.
	Purge(ctx context.Context, destinationID string) error
}

// codePartitionTaken is the code of errPartitionTaken.
const codePartitionTaken = "partition_taken"

func errPartitionTaken() error {
	return errs.New(errs.Unavailable, codePartitionTaken, "Another instance has taken over the partition.")
}
