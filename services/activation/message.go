package activation

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// deviceHash is what keeps its order: the device of an event, else its user, within a workspace.
type deviceHash = ids.Hash

// message is one event on its way to one or more destinations.
type message struct {
	resolved *identityv1.ResolvedEvent
	// value is the record as it came from Kafka; what is parked.
	value  []byte
	device deviceHash
	// payload is the JSON body, made when first needed; it is the same for all destinations, which send it side by side.
	payload     []byte
	payloadErr  error
	payloadOnce sync.Once
	// view is the event as filters see it; documents says whether it has the JSON documents too. Filters run one by one.
	view      map[string]any
	documents bool
}

func decodeMessage(value []byte) (*message, error) {
	resolved := &identityv1.ResolvedEvent{}
	if err := proto.Unmarshal(value, resolved); err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "not_a_resolved_event", "The record is not a resolved event.")
	}
	e := resolved.GetEvent()
	if !ids.Valid(e.GetWorkspaceId()) || e.GetEventId() == "" {
		return nil, errs.New(errs.Invalid, "incomplete_event", "The resolved event lacks workspace or event id.")
	}
	device := e.GetAnonymousId()
	if device == "" {
		device = "user:" + e.GetUserId()
	}
	return &message{resolved: resolved, value: value, device: ids.Hash128(e.GetWorkspaceId(), device)}, nil
}

// messageSpace makes message ids that come out the same on every attempt and every instance.
var messageSpace = uuid.MustParse("6b9f2f0e-6d0f-5f0a-9a3c-6d656b6f6e67") //nolint:gochecknoglobals // a constant in all but name

// id is the idempotency key of the message at a destination.
func (m *message) id(destinationID string) string {
	hash := m.resolved.GetEventHash()
	if len(hash) == 0 {
		e := m.resolved.GetEvent()
		own := ids.Hash128(e.GetWorkspaceId(), e.GetEventId())
		hash = own[:]
	}
	return ids.V5(messageSpace, destinationID, hex.EncodeToString(hash))
}

// body is what a receiver gets of one event.
type body struct {
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Name        string          `json:"name,omitempty"`
	Timestamp   time.Time       `json:"timestamp"`
	ReceivedAt  time.Time       `json:"received_at"`
	WorkspaceID string          `json:"workspace_id"`
	SourceID    string          `json:"source_id"`
	ProfileID   string          `json:"profile_id"`
	AnonymousID string          `json:"anonymous_id,omitempty"`
	UserID      string          `json:"user_id,omitempty"`
	SessionID   string          `json:"session_id,omitempty"`
	GroupID     string          `json:"group_id,omitempty"`
	ShopStep    string          `json:"shop_step,omitempty"`
	Properties  json.RawMessage `json:"properties,omitempty"`
	Traits      json.RawMessage `json:"traits,omitempty"`
	Context     json.RawMessage `json:"context,omitempty"`
}

func (m *message) json() ([]byte, error) {
	m.payloadOnce.Do(func() { m.payload, m.payloadErr = m.marshal() })
	return m.payload, m.payloadErr
}

func (m *message) marshal() ([]byte, error) {
	e := m.resolved.GetEvent()
	payload, err := json.Marshal(body{
		ID: e.GetEventId(), Type: eventType(e), Name: e.GetName(), Timestamp: e.GetTs().AsTime(), ReceivedAt: e.GetReceivedAt().AsTime(),
		WorkspaceID: e.GetWorkspaceId(), SourceID: e.GetSourceId(), ProfileID: m.resolved.GetProfileId(),
		AnonymousID: e.GetAnonymousId(), UserID: e.GetUserId(), SessionID: e.GetSessionId(), GroupID: e.GetGroupId(), ShopStep: shopStep(e),
		Properties: e.GetProperties(), Traits: e.GetTraits(), Context: e.GetContext(),
	})
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, "event_not_json", "The event holds a document that is not JSON.")
	}
	return payload, nil
}

// celEvent is the event as filters see it.
func (m *message) celEvent(documents bool) map[string]any {
	e := m.resolved.GetEvent()
	if m.view == nil {
		m.view = map[string]any{
			"id": e.GetEventId(), "type": eventType(e), "name": e.GetName(), "timestamp": e.GetTs().AsTime(), "source_id": e.GetSourceId(),
			"profile_id": m.resolved.GetProfileId(), "anonymous_id": e.GetAnonymousId(), "user_id": e.GetUserId(),
			"session_id": e.GetSessionId(), "group_id": e.GetGroupId(), "shop_step": shopStep(e),
		}
	}
	if documents && !m.documents {
		m.view["properties"], m.view["traits"], m.view["context"] = document(e.GetProperties()), document(e.GetTraits()), document(e.GetContext())
		m.documents = true
	}
	return m.view
}

func document(raw []byte) map[string]any {
	decoded := map[string]any{}
	// The door accepts JSON objects only; anything else is as good as empty to a filter.
	if err := json.Unmarshal(raw, &decoded); err != nil || decoded == nil {
		return map[string]any{}
	}
	return decoded
}

func eventType(e *collectorv1.Event) string {
	return strings.ToLower(strings.TrimPrefix(e.GetType().String(), "EVENT_TYPE_"))
}

func shopStep(e *collectorv1.Event) string {
	if e.GetShopStep() == collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(e.GetShopStep().String(), "SHOP_STEP_"))
}
