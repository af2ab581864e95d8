package stream

import "time"

// Names of the topics.
const (
	CollectorEvents   = "mekong.collector.events.v1"
	CollectorRejected = "mekong.collector.rejected.v1"
	ResolvedEvents    = "mekong.identity.resolved-events.v1"
	ProfileChanges    = "mekong.identity.profile-changes.v1"
	Outcomes          = "mekong.activation.outcomes.v1"
	ConfigChanges     = "mekong.admin.config-changes.v1"
	Audit             = "mekong.admin.audit.v1"
)

// Consumer groups: mekong.<context>.<purpose>.
const (
	GroupIdentity   = "mekong.identity.resolve"
	GroupWarehouse  = "mekong.warehouse.events"
	GroupActivation = "mekong.activation.forward"
)

// EventPartitions is the partition count of the topics that carry events. Resolved events keep the partition number of
// their input, so both have the same count.
const EventPartitions = 12

// Topic is one row of the registry.
type Topic struct {
	Name string
	// Owner is the context that produces it.
	Owner string
	// Key says what orders and places a record.
	Key string
	// Message is the full name of the protobuf message.
	Message    string
	Partitions int32
	// Retention is how long a real Kafka keeps records.
	Retention time.Duration
	// Compact keeps the newest record per key for ever on a real Kafka; such topics are read models, published again
	// from Postgres whenever their owner starts.
	Compact bool
	// Groups must have consumed a record before the embedded Kafka may drop it.
	Groups []string
}

const week = 7 * 24 * time.Hour

// Topics returns the registry.
func Topics() []Topic {
	topics := []Topic{
		{
			Name: CollectorEvents, Owner: "collector", Key: "workspace + anonymous id, else user id",
			Message: "mekong.collector.v1.Event", Partitions: EventPartitions, Retention: week,
			Groups: []string{GroupIdentity},
		},
		{
			Name: CollectorRejected, Owner: "collector", Key: "workspace + source",
			Message: "mekong.collector.v1.RejectedEvent", Partitions: 3, Retention: week,
		},
		{
			Name: ResolvedEvents, Owner: "identity", Key: "as its input, with the input's partition number",
			Message: "mekong.identity.v1.ResolvedEvent", Partitions: EventPartitions, Retention: week,
			Groups: []string{GroupWarehouse, GroupActivation},
		},
		{
			Name: ProfileChanges, Owner: "identity", Key: "workspace + profile id",
			Message: "mekong.identity.v1.ProfileChange", Partitions: EventPartitions, Retention: week, Compact: true,
		},
		{
			Name: Outcomes, Owner: "activation", Key: "workspace + destination id",
			Message: "mekong.activation.v1.Outcome", Partitions: 6, Retention: week,
		},
		{
			Name: ConfigChanges, Owner: "admin", Key: "kind + id",
			Message: "mekong.admin.v1.ConfigChange", Partitions: 1, Retention: week, Compact: true,
		},
		{
			Name: Audit, Owner: "admin", Key: "workspace, else organisation",
			Message: "mekong.admin.v1.AuditRecorded", Partitions: 1, Retention: week,
		},
	}
	for _, consumed := range []string{CollectorEvents, ResolvedEvents} {
		topics = append(topics, Topic{
			Name: consumed + ".dlq", Owner: "the consumer that gave up", Key: "as its input",
			Message: "as its input, with the reason in headers", Partitions: 3, Retention: 4 * week,
		})
	}
	return topics
}
