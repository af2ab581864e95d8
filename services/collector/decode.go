package collector

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/mekong-cdp/mekong/services/collector/jsonscan"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// shape is how a wire packs its events.
type shape uint8

const (
	shapeSingle shape = iota
	shapeBatch
	shapeShop
)

// wire is one way by which events arrive.
type wire struct {
	// name is stored with each event: "v1/track".
	name  string
	shape shape
	// typ is what the path says; TypeUnknown lets each event say it.
	typ Type
}

// memberNames are a wire's own names, for the path of a refusal.
type memberNames struct{ anonymousID, event string }

// Limits are what one request may hold.
type Limits struct {
	// EventBytes is the size of one event as sent, Events how many a request may hold.
	EventBytes int `koanf:"event_bytes"`
	Events     int `koanf:"events"`
	// BodyBytes is the size of a body as sent, DecodedBytes after decompression.
	BodyBytes    int `koanf:"body_bytes"`
	DecodedBytes int `koanf:"decoded_bytes"`
	// Depth is how deeply properties, traits and context may be nested.
	Depth int `koanf:"depth"`
	// MaxFuture is how far ahead of the door a corrected time may be before it counts as absurd.
	MaxFuture time.Duration `koanf:"max_future"`
}

type decoder struct {
	limits Limits
	words  vocabulary
}

// request is what a body held.
type request struct {
	items []item
	// writeKey is the key that the body named, empty when it named none.
	writeKey string
	// sentAt and context of a batch hold for each of its events.
	sentAt  time.Time
	context string
}

var (
	errBatchTooLarge = errs.New(errs.Invalid, "batch_too_large", "The batch holds too many events; send them in smaller batches.")
	errBatchMissing  = errs.New(errs.Invalid, "batch_missing", `The body must be a JSON object with the array "batch".`)
	errNotEvents     = errs.New(errs.Invalid, "invalid_body", "The body must be one event as a JSON object, or an array of events.")
	errNotAnObject   = errs.New(errs.Invalid, "invalid_body", "The body must be one event as a JSON object.")
)

// decode reads a body. Its errors concern the body as a whole: Invalid "invalid_json", "invalid_body", "batch_missing",
// "batch_too_large". What is wrong with one event refuses that event alone.
func (d *decoder) decode(w wire, body string, req *request) error {
	s := jsonscan.New(body, d.limits.Depth)
	var err error
	switch w.shape {
	case shapeBatch:
		err = d.batch(s, req)
	case shapeShop:
		err = d.shopEvents(s, req)
	default:
		err = d.single(s, w.typ, req)
	}
	if err == nil {
		err = s.End()
	}
	var bad *jsonscan.Error
	if errors.As(err, &bad) {
		return errs.Wrap(err, errs.Invalid, "invalid_json", "The body is not valid JSON: "+bad.Error()+".")
	}
	return err
}

func (d *decoder) add(req *request) (*item, error) {
	if len(req.items) >= d.limits.Events {
		return nil, errBatchTooLarge
	}
	req.items = append(req.items, item{})
	return &req.items[len(req.items)-1], nil
}

// bodyKey takes a member that may hold the write key.
func (req *request) bodyKey(name string, v jsonscan.Value) bool {
	switch name {
	case "writeKey", "write_key", "api_key", "token":
		if key := v.Text(); v.Kind == jsonscan.String && key != "" && req.writeKey == "" {
			req.writeKey = key
		}
		return true
	}
	return false
}

// whole ends an event that was read up to here.
func (d *decoder) whole(it *item, raw string) {
	it.Raw = raw
	if len(raw) > d.limits.EventBytes {
		// The size is the reason, whatever else was found in it.
		it.Rejected = Rejection{Reason: "event_too_large", Message: "The event is larger than the limit of its source."}
	}
}

// notAnObject reads what stands in the place of an event.
func (it *item) notAnObject(s *jsonscan.Scanner) error {
	v, err := s.Value()
	it.Raw = v.Raw
	it.refuse("not_an_object", "", "An event must be a JSON object.")
	return err
}

// idSpace is the namespace of the ids that the door gives to events that have none.
func idSpace() uuid.UUID { return uuid.MustParse("9d2f6f0e-6d0c-5c43-9b6a-6d656b6f6e67") }

// finish gives an event its id and its time once the whole request is known.
func (d *decoder) finish(it *item, req *request, sourceID string, received time.Time) {
	if it.refused() {
		return
	}
	if it.SentAt.IsZero() {
		it.SentAt = req.sentAt
	}
	it.inheritContext(req.context, d.limits.EventBytes)
	it.correct(received, d.limits.MaxFuture)
	if it.ID != "" {
		return
	}
	it.IDAssigned = true
	if it.timestamp == "" {
		// Without a time two equal clicks are two clicks: nothing tells a repetition from them.
		it.ID = ids.New()
		return
	}
	it.ID = ids.V5(idSpace(), sourceID, it.DistinctID(), string(rune('0'+it.Type)), it.Name, it.timestamp, it.Properties, it.Traits)
}
