package collector

import (
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

const (
	eventMessage    = "mekong.collector.v1.Event"
	rejectedMessage = "mekong.collector.v1.RejectedEvent"
	schemaVersion   = "1"
	// maxUserAgent bounds what is kept of the header.
	maxUserAgent = 1024
)

// receipt is what all events of one request share.
type receipt struct {
	source     Source
	wire       string
	receivedAt time.Time
	ip         string
	userAgent  string
}

// appendEvent writes the message Event. It is written by hand, field by field, because this is the hottest line of the
// door: no message is built and nothing is copied twice. TestEventMatchesItsProto holds it to the descriptor.
func appendEvent(b []byte, e *Event, r *receipt) []byte {
	b = appendText(b, 1, r.source.WorkspaceID)
	b = appendText(b, 2, r.source.ID)
	b = appendText(b, 3, e.ID)
	b = appendNumber(b, 4, uint64(e.Type))
	b = appendText(b, 5, e.Name)
	b = appendTime(b, 6, e.Time)
	b = appendTime(b, 7, r.receivedAt)
	b = appendTime(b, 8, e.OriginalTime)
	b = appendTime(b, 9, e.SentAt)
	b = appendText(b, 10, e.AnonymousID)
	b = appendText(b, 11, e.UserID)
	b = appendText(b, 12, e.SessionID)
	b = appendText(b, 13, e.GroupID)
	b = appendText(b, 14, e.PreviousID)
	b = appendNumber(b, 15, uint64(e.Step))
	b = appendText(b, 16, e.Properties)
	b = appendText(b, 17, e.Traits)
	b = appendText(b, 18, e.Context)
	b = appendText(b, 19, r.ip)
	b = appendText(b, 20, r.userAgent)
	b = appendFlags(b, 21, e)
	return appendText(b, 22, r.wire)
}

func appendFlags(b []byte, field protowire.Number, e *Event) []byte {
	var flags []byte
	if e.IDAssigned {
		flags = append(flags, byte(collectorv1.EventFlag_EVENT_FLAG_ID_ASSIGNED))
	}
	if e.TimeClamped {
		flags = append(flags, byte(collectorv1.EventFlag_EVENT_FLAG_TIME_CLAMPED))
	}
	if len(flags) == 0 {
		return b
	}
	// A packed list of numbers below 128: one byte each.
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), flags)
}

// appendRejected writes the message RejectedEvent.
func appendRejected(b []byte, it *item, r *receipt, limit int) []byte {
	b = appendText(b, 1, r.source.WorkspaceID)
	b = appendText(b, 2, r.source.ID)
	b = appendText(b, 3, ids.New())
	b = appendText(b, 4, strings.ToValidUTF8(it.ID, "\ufffd"))
	b = appendText(b, 5, it.Rejected.Reason)
	b = appendText(b, 6, it.Rejected.Message)
	b = appendText(b, 7, it.Rejected.Path)
	b = appendTime(b, 8, r.receivedAt)
	b = appendText(b, 9, it.Raw[:min(len(it.Raw), limit)])
	return appendText(b, 10, r.wire)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendTime(b []byte, field protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	var stack [24]byte
	ts := appendNumber(stack[:0], 1, uint64(t.Unix()))
	ts = appendNumber(ts, 2, uint64(t.Nanosecond()))
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), ts)
}

func sourceFromProto(s *adminv1.SourceState) Source {
	return Source{
		WorkspaceID: s.GetWorkspaceId(), ID: s.GetSourceId(), Type: s.GetType(),
		Enabled: s.GetEnabled(), Deleted: s.GetDeleted(), Origins: s.GetOrigins(),
	}
}

func keyFromProto(k *adminv1.WriteKeyState) writeKey {
	w := writeKey{sourceID: k.GetSourceId(), workspaceID: k.GetWorkspaceId(), revoked: k.GetRevoked()}
	if k.GetExpiresAt() != nil {
		w.expiresAt = k.GetExpiresAt().AsTime()
	}
	return w
}
