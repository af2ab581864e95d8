package warehouse

import (
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// Row is one event as the tables hold it.
type Row struct {
	Workspace, Source, Profile uuid.UUID
	ProfileNo, ProfileVersion  uint64
	EventID                    string
	EventHash                  [16]byte
	Type, Name, ShopStep, Wire string
	// Times are milliseconds since 1970; OriginalTS and SentAt are noTime when unknown.
	TS, ReceivedAt, OriginalTS, SentAt int64
	// DeviceHash keeps the rows of one device together.
	DeviceHash  uint64
	Identifiers [][16]byte

	AnonymousID, UserID, GroupID, PreviousID string

	Price, Quantity, Revenue amount
	Consent                  []choice
	Flags                    []string

	// The texts as sent; the JSON fields hold a rewritten text where the one as sent cannot go into the JSON type.
	Properties, PropertiesJSON string
	Context                    string
	Traits, TraitsJSON         string

	Partition int32
	Offset    int64

	text  [allFields]string
	ranks [allFields]uint8
	lines lines
}

// choice is one answer of the person about consent.
type choice struct {
	purpose string
	given   bool
}

// lines adds up the products of an order while they are read.
type lines struct {
	count   int
	sum     amount
	refused bool
	product string
}

const noTime = int64(-1 << 63)

// Times outside of these years are not believed: they would make partitions of their own.
const (
	firstYear = 2000
	lastYear  = 2100
)

// Builder makes rows of events. It is reused and not safe for concurrent use.
type Builder struct {
	reader     *reader
	properties places
	context    places
	nothing    places
}

// NewBuilder returns a builder.
func NewBuilder() *Builder {
	return &Builder{reader: newReader(), properties: newPropertyPlaces(), context: newContextPlaces()}
}

// Build makes the row of an event. Only what cannot be a row at all is refused, as Invalid: documents that ClickHouse
// would not take are repaired and flagged.
func (b *Builder) Build(resolved *identityv1.ResolvedEvent) (*Row, error) {
	event := resolved.GetEvent()
	row := &Row{
		ProfileNo: uint64(resolved.GetProfileNo()), ProfileVersion: uint64(resolved.GetProfileVersion()), //nolint:gosec // never negative
		EventID: text(event.GetEventId()), Type: typeName(event.GetType()), Name: text(event.GetName()),
		ShopStep: stepName(event.GetShopStep()), Wire: text(event.GetWire()),
		AnonymousID: text(event.GetAnonymousId()), UserID: text(event.GetUserId()),
		GroupID: text(event.GetGroupId()), PreviousID: text(event.GetPreviousId()),
		Partition: resolved.GetSrcPartition(), Offset: resolved.GetSrcOffset(),
	}
	if err := row.identify(resolved); err != nil {
		return nil, err
	}
	row.setTimes(event)
	for _, flag := range event.GetFlags() {
		if name := flagName(flag); name != "" {
			row.flag(name)
		}
	}
	b.readDocuments(event, row)
	row.derive(event)
	return row, nil
}

func (b *Builder) readDocuments(event *collectorv1.Event, row *Row) {
	row.Properties, row.PropertiesJSON = b.document(event.GetProperties(), b.properties, row)
	var rewritten string
	if row.Context, rewritten = b.document(event.GetContext(), b.context, row); rewritten != "" {
		row.Context = rewritten
	}
	row.Traits, row.TraitsJSON = b.document(event.GetTraits(), b.nothing, row)
}

// document reads a text, rewriting it first if it must be.
func (b *Builder) document(doc []byte, known places, row *Row) (raw, rewritten string) {
	if len(doc) == 0 {
		return "", ""
	}
	if b.reader.read(doc, known, row) == nil {
		return string(doc), ""
	}
	clean, flags := rewrite(doc)
	for _, flag := range flags {
		row.flag(flag)
	}
	row.lines, row.Consent = lines{}, nil
	if err := b.reader.read(clean, known, row); err != nil {
		clean = []byte("{}")
		row.flag(flagDocumentRefused)
	}
	return string(doc), string(clean)
}

func (r *Row) identify(resolved *identityv1.ResolvedEvent) error {
	event := resolved.GetEvent()
	var err error
	if r.Workspace, err = uuid.Parse(event.GetWorkspaceId()); err != nil {
		return invalid("workspace_id_invalid", "the event's workspace id is no UUID")
	}
	if r.Source, err = uuid.Parse(event.GetSourceId()); err != nil {
		return invalid("source_id_invalid", "the event's source id is no UUID")
	}
	if r.Profile, err = uuid.Parse(resolved.GetProfileId()); err != nil {
		return invalid("profile_id_invalid", "the event's profile id is no UUID")
	}
	if r.EventID == "" || len(resolved.GetEventHash()) != len(r.EventHash) {
		return invalid("event_hash_invalid", "the event lacks its id or a hash of 16 bytes")
	}
	copy(r.EventHash[:], resolved.GetEventHash())
	if r.Partition < 0 || r.Offset < 0 || resolved.GetProfileNo() < 0 || resolved.GetProfileVersion() < 0 {
		return invalid("event_position_invalid", "the event's partition, offset, profile number or version is negative")
	}
	for _, identifier := range resolved.GetIdentifiers() {
		var hash [16]byte
		if len(identifier.GetHash()) != len(hash) {
			return invalid("identifier_hash_invalid", "an identifier's hash is not of 16 bytes")
		}
		copy(hash[:], identifier.GetHash())
		r.Identifiers = append(r.Identifiers, hash)
	}
	device := r.AnonymousID
	if device == "" {
		device = r.UserID
	}
	hash := ids.Hash128(event.GetWorkspaceId(), device)
	r.DeviceHash = binary.BigEndian.Uint64(hash[:8])
	return nil
}

func (r *Row) setTimes(event *collectorv1.Event) {
	r.ReceivedAt, r.TS = millis(event.GetReceivedAt()), millis(event.GetTs())
	r.OriginalTS, r.SentAt = millis(event.GetOriginalTs()), millis(event.GetSentAt())
	if r.TS == noTime && event.GetTs() != nil {
		r.flag(flagTimeClamped)
	}
	if r.ReceivedAt == noTime {
		r.ReceivedAt = r.TS
	}
	if r.TS == noTime {
		r.TS = r.ReceivedAt
	}
	if r.TS == noTime {
		// Neither time can be believed; the row is kept at the edge of the calendar rather than lost.
		r.TS = time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
		r.ReceivedAt = r.TS
		r.flag(flagTimeClamped)
	}
}

// millis returns noTime for a time that is not set or not to be believed.
func millis(ts *timestamppb.Timestamp) int64 {
	if ts == nil {
		return noTime
	}
	t := ts.AsTime()
	if t.Year() < firstYear || t.Year() > lastYear {
		return noTime
	}
	return t.UnixMilli()
}

// fill sets a field from the raw JSON text of a string or number.
func (r *Row) fill(at place, raw []byte) {
	if at.rank < r.ranks[at.field] {
		return
	}
	value := string(raw)
	if raw[0] == '"' {
		value = value[1 : len(value)-1]
		if strings.IndexByte(value, '\\') >= 0 {
			plain, err := jsontext.AppendUnquote(nil, raw)
			if err != nil {
				return
			}
			value = string(plain)
		}
	}
	if value == "" {
		return
	}
	r.text[at.field], r.ranks[at.field] = value, at.rank
}

// addLine closes a line of an order: its fields are read, the next line starts without them.
func (r *Row) addLine() {
	r.lines.count++
	if r.lines.product == "" {
		r.lines.product = r.text[fieldLineProduct]
	}
	price, quantity := r.text[fieldLinePrice], r.text[fieldLineQuantity]
	for _, f := range [...]field{fieldLinePrice, fieldLineQuantity, fieldLineProduct} {
		r.text[f], r.ranks[f] = "", 0
	}
	if price == "" {
		return
	}
	if quantity == "" {
		quantity = "1"
	}
	p, ok1 := parseAmount(price)
	q, ok2 := parseAmount(quantity)
	total, ok3 := p.times(q)
	sum, ok4 := r.lines.sum.plus(total)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		r.lines.refused = true
		return
	}
	r.lines.sum = sum
}

// derive fills what follows from more than one place.
func (r *Row) derive(event *collectorv1.Event) {
	if id := text(event.GetSessionId()); id != "" {
		r.text[fieldSessionID] = id
	}
	r.pageOf(r.text[fieldPageURL])
	if r.text[fieldProductID] == "" && r.lines.count == 1 {
		r.text[fieldProductID] = r.lines.product
	}
	r.text[fieldCurrency] = strings.ToUpper(r.text[fieldCurrency])
	r.Price, r.Quantity = r.amountOf(fieldPrice), r.amountOf(fieldQuantity)
	r.Revenue = r.revenue(event.GetShopStep())
	if event.GetShopStep() == collectorv1.ShopStep_SHOP_STEP_PURCHASE && r.text[fieldOrderID] == "" {
		r.text[fieldOrderID] = r.EventID
	}
}

func (r *Row) amountOf(f field) amount {
	if r.text[f] == "" {
		return amount{}
	}
	a, ok := parseAmount(r.text[f])
	if !ok {
		r.flag(flagAmountRefused)
	}
	return a
}

// revenue is what was given, else the sum of the lines; only purchases, refunds and events of no shop step have one.
func (r *Row) revenue(step collectorv1.ShopStep) amount {
	given := r.amountOf(fieldRevenue)
	switch step {
	case collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED:
		return given
	case collectorv1.ShopStep_SHOP_STEP_PURCHASE, collectorv1.ShopStep_SHOP_STEP_REFUND:
	default:
		return amount{}
	}
	computed := r.computedRevenue()
	switch {
	case !given.set:
		given = computed
	case computed.set && computed != given:
		r.flag(flagRevenueDiffers)
	}
	if step == collectorv1.ShopStep_SHOP_STEP_REFUND {
		return given.negative()
	}
	return given
}

func (r *Row) computedRevenue() amount {
	if r.lines.refused {
		r.flag(flagAmountRefused)
		return amount{}
	}
	if r.lines.sum.set {
		return r.lines.sum
	}
	if !r.Price.set {
		return amount{}
	}
	quantity := r.Quantity
	if !quantity.set {
		quantity = amount{micros: microsPerUnit, set: true}
	}
	total, ok := r.Price.times(quantity)
	if !ok {
		r.flag(flagAmountRefused)
	}
	return total
}

func (r *Row) flag(name string) {
	for _, f := range r.Flags {
		if f == name {
			return
		}
	}
	r.Flags = append(r.Flags, name)
}

// size is about what the row takes in memory and on the wire.
func (r *Row) size() int {
	const fixed = 700
	return fixed + 2*len(r.Properties) + len(r.PropertiesJSON) + len(r.Context) + len(r.Traits) + len(r.TraitsJSON)
}

// refuseDocuments empties the JSON columns of a row that ClickHouse would not take; the texts as sent stay.
func (r *Row) refuseDocuments() {
	r.flag(flagDocumentRefused)
	r.PropertiesJSON, r.TraitsJSON, r.Context = "{}", "{}", ""
}

func invalid(code, message string) error { return errs.New(errs.Invalid, code, message) }

// text makes sure of valid UTF-8: protobuf promises it, the tables depend on it.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func typeName(t collectorv1.EventType) string {
	switch t {
	case collectorv1.EventType_EVENT_TYPE_TRACK:
		return "track"
	case collectorv1.EventType_EVENT_TYPE_PAGE:
		return "page"
	case collectorv1.EventType_EVENT_TYPE_SCREEN:
		return "screen"
	case collectorv1.EventType_EVENT_TYPE_IDENTIFY:
		return "identify"
	case collectorv1.EventType_EVENT_TYPE_GROUP:
		return "group"
	case collectorv1.EventType_EVENT_TYPE_ALIAS:
		return "alias"
	default:
		return ""
	}
}

func stepName(s collectorv1.ShopStep) string {
	switch s {
	case collectorv1.ShopStep_SHOP_STEP_IMPRESSION:
		return "impression"
	case collectorv1.ShopStep_SHOP_STEP_VIEW:
		return "view"
	case collectorv1.ShopStep_SHOP_STEP_CLICK:
		return "click"
	case collectorv1.ShopStep_SHOP_STEP_SEARCH:
		return "search"
	case collectorv1.ShopStep_SHOP_STEP_ADD_TO_CART:
		return "add_to_cart"
	case collectorv1.ShopStep_SHOP_STEP_CHECKOUT:
		return "checkout"
	case collectorv1.ShopStep_SHOP_STEP_PURCHASE:
		return "purchase"
	case collectorv1.ShopStep_SHOP_STEP_REFUND:
		return "refund"
	default:
		return ""
	}
}

func flagName(f collectorv1.EventFlag) string {
	switch f {
	case collectorv1.EventFlag_EVENT_FLAG_ID_ASSIGNED:
		return "id_assigned"
	case collectorv1.EventFlag_EVENT_FLAG_TIME_CLAMPED:
		return flagTimeClamped
	default:
		return ""
	}
}
