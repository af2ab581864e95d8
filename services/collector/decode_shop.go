package collector

import "github.com/mekong-cdp/mekong/services/collector/jsonscan"

// shopEvents reads one event of the shop contract, or an array of them.
func (d *decoder) shopEvents(s *jsonscan.Scanner, req *request) error {
	switch s.Next() {
	case jsonscan.Object:
		return d.shopEvent(s, req)
	case jsonscan.Array:
		s.Enter()
		for i := 0; ; i++ {
			ok, err := s.Element(i)
			if err != nil || !ok {
				return err
			}
			if err := d.shopEvent(s, req); err != nil {
				return err
			}
		}
	default:
		return d.wrongBody(s, errNotEvents)
	}
}

// shopMembers are the values of one event that the door looks at.
type shopMembers struct {
	id, typ, ts, sentAt, anonymousID, userID, sessionID jsonscan.Value
	goods                                               goods
}

func (d *decoder) shopEvent(s *jsonscan.Scanner, req *request) error {
	it, err := d.add(req)
	if err != nil {
		return err
	}
	if s.Next() != jsonscan.Object {
		return it.notAnObject(s)
	}
	var m shopMembers
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
		if name == "ecom" {
			v, err = members(s, m.good)
		} else {
			v, err = s.Value()
		}
		if err != nil {
			return err
		}
		if v.Flaw != 0 {
			it.flaw(v.Flaw, plainPath(name, v))
		}
		if !m.take(it, name, v) {
			req.bodyKey(name, v)
		}
	}
	d.whole(it, s.Since(start))
	d.fromShop(it, &m)
	return nil
}

func (m *shopMembers) take(it *item, name string, v jsonscan.Value) bool {
	switch name {
	case "event_id":
		m.id = v
	case "event_type":
		m.typ = v
	case "ts":
		m.ts = v
	case "sent_at":
		m.sentAt = v
	case "anonymous_id":
		m.anonymousID = v
	case "user_id":
		m.userID = v
	case "session_id":
		m.sessionID = v
	case "list":
		m.goods.list = v.Given()
	case "products":
		m.good(name, v)
	case "ecom", "props", "device", "geo":
		it.object(v, name)
	default:
		return false
	}
	return true
}

// good looks at a member of ecom, or at the lines, which may stand there or beside it.
func (m *shopMembers) good(name string, v jsonscan.Value) {
	switch name {
	case "product_id":
		m.goods.product = m.goods.product || v.Text() != ""
	case "qty", "quantity":
		m.goods.negative.add(v)
	case "products":
		if productLines(v.Raw, &m.goods.negative) > 0 {
			m.goods.product = true
		}
	}
}

func (d *decoder) fromShop(it *item, m *shopMembers) {
	it.ID = it.eventID(m.id, "event_id")
	switch typ := it.text(m.typ, "event_type"); {
	case d.words.fromShop(&it.Event, typ, m.goods):
	case typ == "":
		it.refuse("missing_event_type", "event_type", "The event needs an event_type.")
	default:
		it.refuse("unknown_event_type", "event_type", "The event_type must be view, click, search, add_to_cart, checkout or purchase.")
	}
	it.AnonymousID = it.text(m.anonymousID, "anonymous_id")
	it.UserID = it.text(m.userID, "user_id")
	it.SessionID = it.text(m.sessionID, "session_id")
	it.OriginalTime, it.timestamp = it.time(m.ts, "ts"), m.ts.Text()
	it.SentAt, _ = parseTime(m.sentAt)
	// What the door does not look at must not get lost: ecom, props, page_url and whatever comes later.
	it.Properties = it.Raw
	it.complete(memberNames{anonymousID: "anonymous_id", event: "event_type"})
}
