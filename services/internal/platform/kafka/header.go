package kafka

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Names of record headers.
const (
	HeaderWorkspace      = "workspace"
	HeaderMessageType    = "message_type"
	HeaderSchemaVersion  = "schema_version"
	HeaderSrcOffset      = "src_offset"
	HeaderProfileID      = "profile_id"
	HeaderProfileVersion = "profile_version"
	HeaderTraceparent    = "traceparent"
)

// Names of the headers that a dead letter carries besides its own.
const (
	HeaderDeadReason    = "dlq_reason"
	HeaderDeadKind      = "dlq_kind"
	HeaderDeadTopic     = "dlq_topic"
	HeaderDeadPartition = "dlq_partition"
	HeaderDeadOffset    = "dlq_offset"
	HeaderDeadGroup     = "dlq_group"
	HeaderDeadAt        = "dlq_at"
)

// Header returns the value of the header name, empty when rec has none.
func Header(rec *kgo.Record, name string) string {
	for i := range rec.Headers {
		if rec.Headers[i].Key == name {
			return string(rec.Headers[i].Value)
		}
	}
	return ""
}

// SetHeader sets the header name, replacing an earlier value.
func SetHeader(rec *kgo.Record, name, value string) {
	for i := range rec.Headers {
		if rec.Headers[i].Key == name {
			rec.Headers[i].Value = []byte(value)
			return
		}
	}
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
}

// SetSrcOffset says from which offset of the input rec was made.
func SetSrcOffset(rec *kgo.Record, offset int64) {
	SetHeader(rec, HeaderSrcOffset, strconv.FormatInt(offset, 10))
}

// SrcOffset returns the src_offset of rec; false when it has none or one that is not a number.
func SrcOffset(rec *kgo.Record) (int64, bool) {
	for i := range rec.Headers {
		if rec.Headers[i].Key == HeaderSrcOffset {
			n, err := strconv.ParseInt(string(rec.Headers[i].Value), 10, 64)
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}
