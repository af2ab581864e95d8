package collector

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mekong-cdp/mekong/services/collector/jsonscan"
)

// single reads a body that is one event of the type that the path says.
func (d *decoder) single(s *jsonscan.Scanner, typ Type, req *request) error {
	if s.Next() != jsonscan.Object {
		return d.wrongBody(s, errNotAnObject)
	}
	return d.segmentEvent(s, typ, req)
}

// wrongBody tells text that is no JSON from JSON of another shape.
func (d *decoder) wrongBody(s *jsonscan.Scanner, shape error) error {
	if _, err := s.Value(); err != nil {
		return err
	}
	return shape
}

func (d *decoder) batch(s *jsonscan.Scanner, req *request) error {
	if s.Next() != jsonscan.Object {
		return d.wrongBody(s, errBatchMissing)
	}
	s.Enter()
	found := false
	for i := 0; ; i++ {
		name, ok, err := s.Member(i)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if name == "batch" && s.Next() == jsonscan.Array {
			found = true
			if err := d.batchEvents(s, req); err != nil {
				return err
			}
			continue
		}
		v, err := s.Value()
		if err != nil {
			return err
		}
		switch {
		case req.bodyKey(name, v), v.Flaw != 0:
		case name == "context" && v.Kind == jsonscan.Object:
			req.context = v.Raw
		case name == "sentAt", name == "sent_at":
			// A batch without a readable sentAt is one without a correction, no reason to lose its events.
			req.sentAt, _ = parseTime(v)
		}
	}
	if !found {
		return errBatchMissing
	}
	return nil
}

func (d *decoder) batchEvents(s *jsonscan.Scanner, req *request) error {
	s.Enter()
	req.items = req.items[:0]
	for i := 0; ; i++ {
		ok, err := s.Element(i)
		if err != nil || !ok {
			return err
		}
		if err := d.segmentEvent(s, TypeUnknown, req); err != nil {
			return err
		}
	}
}

// segmentMembers are the values of one event that the door looks at.
type segmentMembers struct {
	typ, id, anonymousID, userID, event, name, groupID, previousID jsonscan.Value
	timestamp, originalTimestamp, sentAt                           jsonscan.Value
	properties, traits, context                                    jsonscan.Value
	contextTraits, sessionID                                       jsonscan.Value
}

func (d *decoder) segmentEvent(s *jsonscan.Scanner, typ Type, req *request) error {
	it, err := d.add(req)
	if err != nil {
		return err
	}
	if s.Next() != jsonscan.Object {
		return it.notAnObject(s)
	}
	var m segmentMembers
	start := s.Pos()
	s.Enter()
	for i := 0; ; i++ {
		name, ok, err := s.Member(i)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		var v jsonscan.Value
		if name == "context" {
			v, err = m.readContext(s)
		} else {
			v, err = s.Value()
		}
		if err != nil {
			return err
		}
		if v.Flaw != 0 {
			it.flaw(v.Flaw, plainPath(name, v))
		}
		if !m.take(name, v) {
			req.bodyKey(name, v)
		}
	}
	d.whole(it, s.Since(start))
	d.fromSegment(it, &m, typ)
	return nil
}

// plainPath leaves out a member's name that itself cannot be stored.
func plainPath(name string, v jsonscan.Value) string {
	if v.Flaw&jsonscan.InvalidUTF8 != 0 {
		name = strings.ToValidUTF8(name, "\ufffd")
	}
	return name[:min(len(name), maxEventID)]
}

func (m *segmentMembers) readContext(s *jsonscan.Scanner) (jsonscan.Value, error) {
	return members(s, func(name string, v jsonscan.Value) {
		switch name {
		case "traits":
			m.contextTraits = v
		case "sessionId", "session_id":
			m.sessionID = v
		}
	})
}

func (m *segmentMembers) take(name string, v jsonscan.Value) bool {
	switch name {
	case "type":
		m.typ = v
	case "messageId":
		m.id = v
	case "anonymousId":
		m.anonymousID = v
	case "userId":
		m.userID = v
	case "event":
		m.event = v
	case "name":
		m.name = v
	case "groupId":
		m.groupID = v
	case "previousId":
		m.previousID = v
	case "timestamp":
		m.timestamp = v
	case "originalTimestamp":
		m.originalTimestamp = v
	case "sentAt":
		m.sentAt = v
	case "properties":
		m.properties = v
	case "traits":
		m.traits = v
	case "context":
		m.context = v
	default:
		return false
	}
	return true
}

func (d *decoder) fromSegment(it *item, m *segmentMembers, typ Type) {
	it.ID = it.eventID(m.id, "messageId")
	if it.Type = typ; typ == TypeUnknown {
		said := it.text(m.typ, "type")
		if it.Type = d.words.types[said]; it.Type == TypeUnknown {
			it.refuse("unknown_event_type", "type", "The type must be track, page, screen, identify, group or alias.")
		}
	}
	it.AnonymousID = it.text(m.anonymousID, "anonymousId")
	it.UserID = it.text(m.userID, "userId")
	it.GroupID = it.text(m.groupID, "groupId")
	it.PreviousID = it.text(m.previousID, "previousId")
	it.SessionID = it.text(m.sessionID, "context.sessionId")
	switch it.Type {
	case TypeTrack:
		it.Name = it.text(m.event, "event")
	case TypePage, TypeScreen:
		it.Name = it.text(m.name, "name")
	default:
	}
	it.Properties = it.object(m.properties, "properties")
	it.Context = it.object(m.context, "context")
	if it.Type == TypeIdentify || it.Type == TypeGroup {
		if it.Traits = it.object(m.traits, "traits"); it.Traits == "" && it.Type == TypeIdentify {
			// RudderStack's browser SDK sends the traits of identify only here.
			it.Traits = it.object(m.contextTraits, "context.traits")
		}
	}
	own := m.originalTimestamp
	path := "originalTimestamp"
	if !own.Given() {
		own, path = m.timestamp, "timestamp"
	}
	it.OriginalTime, it.timestamp = it.time(own, path), own.Text()
	it.SentAt, _ = parseTime(m.sentAt)
	d.words.fromName(&it.Event)
	it.complete(memberNames{anonymousID: "anonymousId", event: "event"})
}

// inheritContext gives an event what the context of its batch holds and its own does not.
func (it *item) inheritContext(batch string, limit int) {
	switch {
	case batch == "":
		return
	case it.Context == "":
		it.Context = batch
	default:
		it.Context = merge(it.Context, batch)
	}
	if len(it.Context) > limit {
		it.refuse("context_too_large", "context", "The context, with that of the batch, is larger than an event may be.")
	}
}

// merge adds to an object the members of base whose names it lacks.
func merge(object, base string) string {
	var names []string
	_, _ = members(jsonscan.New(object, 1), func(name string, _ jsonscan.Value) { names = append(names, name) })
	var b strings.Builder
	b.Grow(len(object) + len(base))
	b.WriteString(strings.TrimRight(object[:len(object)-1], " \t\r\n"))
	comma := len(names) > 0
	s := jsonscan.New(base, 1)
	s.Enter()
	for i := 0; ; i++ {
		name, ok, err := s.Member(i)
		if err != nil || !ok {
			break
		}
		v, err := s.Value()
		if err != nil {
			break
		}
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil || slices.Contains(names, name) {
			continue
		}
		if comma {
			b.WriteByte(',')
		}
		comma = true
		b.Write(quoted)
		b.WriteByte(':')
		b.WriteString(v.Raw)
	}
	b.WriteByte('}')
	return b.String()
}
