package warehouse

import (
	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"github.com/mekong-cdp/mekong/services/internal/platform/clickhouse"
)

// typed is a column under another type's name: same bytes, other meaning.
type typed struct {
	proto.ColInput
	name proto.ColumnType
}

// Type implements proto.ColInput.
func (c typed) Type() proto.ColumnType { return c.name }

const (
	typeTime         proto.ColumnType = "DateTime64(3, 'UTC')"
	typeNullableTime proto.ColumnType = "Nullable(DateTime64(3, 'UTC'))"
	typeAmount       proto.ColumnType = "Nullable(Decimal(38, 6))"
)

// nullable is a column of values that may be missing.
type nullable[C proto.ColInput] struct {
	name   proto.ColumnType
	nulls  proto.ColUInt8
	values C
}

// Type implements proto.ColInput.
func (c *nullable[C]) Type() proto.ColumnType { return c.name }

// Rows implements proto.ColInput.
func (c *nullable[C]) Rows() int { return c.nulls.Rows() }

// EncodeColumn implements proto.ColInput.
func (c *nullable[C]) EncodeColumn(b *proto.Buffer) {
	c.nulls.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

// WriteColumn implements proto.ColInput.
func (c *nullable[C]) WriteColumn(w *proto.Writer) {
	c.nulls.WriteColumn(w)
	c.values.WriteColumn(w)
}

func (c *nullable[C]) note(set bool) {
	if set {
		c.nulls = append(c.nulls, 0)
	} else {
		c.nulls = append(c.nulls, 1)
	}
}

func newTimes() *nullable[*proto.ColInt64] {
	return &nullable[*proto.ColInt64]{name: typeNullableTime, values: new(proto.ColInt64)}
}

func newAmounts() *nullable[*proto.ColInt128] {
	return &nullable[*proto.ColInt128]{name: typeAmount, values: new(proto.ColInt128)}
}

func appendTime(c *nullable[*proto.ColInt64], millis int64) {
	c.note(millis != noTime)
	if millis == noTime {
		millis = 0
	}
	c.values.Append(millis)
}

func appendAmount(c *nullable[*proto.ColInt128], a amount) {
	c.note(a.set)
	c.values.Append(proto.Int128FromInt(int(a.micros)))
}

// block is the columns of one insert, filled row by row and reused. LowCardinality columns travel as plain strings: the
// server builds the dictionaries anyway.
type block struct {
	columns proto.Input
	encoder clickhouse.Encoder
	append  func(row *Row)
	reset   func()
}

// blockBuilder collects columns with what fills them.
type blockBuilder struct {
	block   block
	fillers []func(row *Row)
	resets  []func()
}

func (b *blockBuilder) add(name string, data proto.ColInput, reset func(), fill func(row *Row)) {
	b.block.columns = append(b.block.columns, proto.InputColumn{Name: name, Data: data})
	b.fillers = append(b.fillers, fill)
	b.resets = append(b.resets, reset)
}

func (b *blockBuilder) build() *block {
	fillers, resets := b.fillers, b.resets
	b.block.append = func(row *Row) {
		for _, fill := range fillers {
			fill(row)
		}
	}
	b.block.reset = func() {
		for _, reset := range resets {
			reset()
		}
	}
	return &b.block
}

func (b *blockBuilder) text(name string, of func(*Row) string) {
	c := new(proto.ColStr)
	b.add(name, c, c.Reset, func(row *Row) { c.Append(of(row)) })
}

func (b *blockBuilder) field(name string, f field) {
	b.text(name, func(row *Row) string { return row.text[f] })
}

func (b *blockBuilder) uuid(name string, of func(*Row) uuid.UUID) {
	c := new(proto.ColUUID)
	b.add(name, c, c.Reset, func(row *Row) { c.Append(of(row)) })
}

func (b *blockBuilder) number(name string, of func(*Row) uint64) {
	c := new(proto.ColUInt64)
	b.add(name, c, c.Reset, func(row *Row) { c.Append(of(row)) })
}

func (b *blockBuilder) time(name string, of func(*Row) int64) {
	c := new(proto.ColInt64)
	b.add(name, typed{c, typeTime}, c.Reset, func(row *Row) { c.Append(of(row)) })
}

func (b *blockBuilder) maybeTime(name string, of func(*Row) int64) {
	c := newTimes()
	b.add(name, c, func() { c.nulls.Reset(); c.values.Reset() }, func(row *Row) { appendTime(c, of(row)) })
}

func (b *blockBuilder) amount(name string, of func(*Row) amount) {
	c := newAmounts()
	b.add(name, c, func() { c.nulls.Reset(); c.values.Reset() }, func(row *Row) { appendAmount(c, of(row)) })
}

// position adds where a row came from and which batch brought it.
func (b *blockBuilder) position(stamp *stamp) {
	partition := new(proto.ColUInt32)
	b.add("src_partition", partition, partition.Reset, func(row *Row) { partition.Append(uint32(row.Partition)) }) //nolint:gosec // never negative
	b.number("src_offset", func(row *Row) uint64 { return uint64(row.Offset) })                                    //nolint:gosec // never negative
	b.uuid("_batch", func(*Row) uuid.UUID { return stamp.batch })
	b.time("_inserted_at", func(*Row) int64 { return stamp.at })
}

// stamp is what all rows of a batch share.
type stamp struct {
	batch uuid.UUID
	at    int64
}

func newEventBlock(s *stamp) *block {
	var b blockBuilder
	b.uuid("workspace_id", func(r *Row) uuid.UUID { return r.Workspace })
	b.text("event_id", func(r *Row) string { return r.EventID })
	hash := new(proto.ColFixedStr16)
	b.add("event_hash", hash, hash.Reset, func(r *Row) { hash.Append(r.EventHash) })
	b.text("event_type", func(r *Row) string { return r.Type })
	b.text("event_name", func(r *Row) string { return r.Name })
	b.text("shop_step", func(r *Row) string { return r.ShopStep })
	b.time("ts", func(r *Row) int64 { return r.TS })
	b.time("received_at", func(r *Row) int64 { return r.ReceivedAt })
	b.maybeTime("original_ts", func(r *Row) int64 { return r.OriginalTS })
	b.maybeTime("sent_at", func(r *Row) int64 { return r.SentAt })
	b.uuid("source_id", func(r *Row) uuid.UUID { return r.Source })
	b.text("wire", func(r *Row) string { return r.Wire })
	b.number("device_hash", func(r *Row) uint64 { return r.DeviceHash })
	b.number("profile_no", func(r *Row) uint64 { return r.ProfileNo })
	b.uuid("profile_id", func(r *Row) uuid.UUID { return r.Profile })
	b.number("profile_version", func(r *Row) uint64 { return r.ProfileVersion })
	identifiers := proto.NewArrFixedStr16()
	b.add("identifiers", identifiers, identifiers.Reset, func(r *Row) { identifiers.Append(r.Identifiers) })
	b.text("anonymous_id", func(r *Row) string { return r.AnonymousID })
	b.text("user_id", func(r *Row) string { return r.UserID })
	b.text("group_id", func(r *Row) string { return r.GroupID })
	b.text("previous_id", func(r *Row) string { return r.PreviousID })
	for f, name := range fieldColumns() {
		b.field(name, field(f)) //nolint:gosec // a handful of fields
	}
	b.text("referrer_domain", func(r *Row) string { return domainOf(r.text[fieldReferrer]) })
	b.amount("price", func(r *Row) amount { return r.Price })
	b.amount("quantity", func(r *Row) amount { return r.Quantity })
	b.amount("revenue", func(r *Row) amount { return r.Revenue })
	b.documents()
	b.position(s)
	return b.build()
}

// documents adds consent, flags and the JSON texts.
func (b *blockBuilder) documents() {
	consent := proto.NewMap[string, bool](new(proto.ColStr), new(proto.ColBool))
	var pairs []proto.KV[string, bool]
	b.add("consent", consent, consent.Reset, func(r *Row) {
		pairs = pairs[:0]
		for _, c := range r.Consent {
			pairs = append(pairs, proto.KV[string, bool]{Key: c.purpose, Value: c.given})
		}
		consent.AppendKV(pairs)
	})
	flags := proto.NewArray[string](new(proto.ColStr))
	b.add("flags", flags, flags.Reset, func(r *Row) { flags.Append(r.Flags) })
	b.text("properties_raw", func(r *Row) string { return r.Properties })
	b.text("properties_json", func(r *Row) string { return r.PropertiesJSON })
	b.text("context_raw", func(r *Row) string { return r.Context })
	b.text("traits_raw", func(r *Row) string { return r.Traits })
	b.text("traits_json", func(r *Row) string { return r.TraitsJSON })
}

// fieldColumns names the column of each text field.
func fieldColumns() [textFields]string {
	return [textFields]string{
		fieldSessionID: "session_id", fieldPageURL: "page_url", fieldPagePath: "page_path", fieldPageTitle: "page_title",
		fieldReferrer: "referrer", fieldUTMSource: "utm_source", fieldUTMMedium: "utm_medium", fieldUTMCampaign: "utm_campaign",
		fieldUTMTerm: "utm_term", fieldUTMContent: "utm_content", fieldClickID: "click_id", fieldDeviceType: "device_type",
		fieldOS: "os", fieldBrowser: "browser", fieldCountry: "country", fieldRegion: "region", fieldCity: "city",
		fieldLocale: "locale", fieldProductID: "product_id", fieldCategory: "category", fieldCurrency: "currency",
		fieldOrderID: "order_id", fieldSearchQuery: "search_query",
	}
}

func newPersonBlock(s *stamp) *block {
	var b blockBuilder
	b.uuid("workspace_id", func(r *Row) uuid.UUID { return r.Workspace })
	b.number("device_hash", func(r *Row) uint64 { return r.DeviceHash })
	b.time("ts", func(r *Row) int64 { return r.TS })
	b.text("event_id", func(r *Row) string { return r.EventID })
	b.text("event_type", func(r *Row) string { return r.Type })
	b.text("event_name", func(r *Row) string { return r.Name })
	b.text("shop_step", func(r *Row) string { return r.ShopStep })
	b.number("profile_no", func(r *Row) uint64 { return r.ProfileNo })
	b.field("session_id", fieldSessionID)
	b.field("product_id", fieldProductID)
	b.field("currency", fieldCurrency)
	b.amount("revenue", func(r *Row) amount { return r.Revenue })
	b.position(s)
	return b.build()
}

// newProbeBlock has the texts that become JSON columns, and nothing else.
func newProbeBlock() *block {
	var b blockBuilder
	b.text("properties_raw", func(r *Row) string { return orElse(r.PropertiesJSON, r.Properties) })
	b.text("context_raw", func(r *Row) string { return r.Context })
	b.text("traits_raw", func(r *Row) string { return orElse(r.TraitsJSON, r.Traits) })
	return b.build()
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
