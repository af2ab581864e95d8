package collector

import "github.com/mekong-cdp/mekong/services/collector/jsonscan"

// meaning is one row of the contract's table: what a shop event is stored as. The names are the canonical ones of all
// wires, so the same table gives events of any SDK their step.
type meaning struct {
	shopType string
	when     condition
	typ      Type
	name     string
	step     Step
}

// condition is what an event of the shop contract must hold besides its type.
type condition uint8

const (
	always condition = iota
	withProduct
	withList
	withNegativeQuantity
)

const (
	orderCompleted = "Order Completed"
	orderRefunded  = "Order Refunded"
)

// meanings is read from the top: the first row that holds decides.
func meanings() []meaning {
	return []meaning{
		{"view", withList, TypeTrack, "Product List Viewed", StepImpression},
		{"view", withProduct, TypeTrack, "Product Viewed", StepView},
		{"view", always, TypePage, "", StepNone},
		{"click", withProduct, TypeTrack, "Product Clicked", StepClick},
		{"click", always, TypeTrack, "Element Clicked", StepNone},
		{"search", always, TypeTrack, "Products Searched", StepSearch},
		{"add_to_cart", always, TypeTrack, "Product Added", StepAddToCart},
		{"checkout", always, TypeTrack, "Checkout Started", StepCheckout},
		{"purchase", withNegativeQuantity, TypeTrack, orderRefunded, StepRefund},
		{"purchase", always, TypeTrack, orderCompleted, StepPurchase},
	}
}

func typeNames() map[string]Type {
	return map[string]Type{
		"track": TypeTrack, "page": TypePage, "screen": TypeScreen, "identify": TypeIdentify, "group": TypeGroup, "alias": TypeAlias,
	}
}

// vocabulary holds the tables in the forms that decoding asks for.
type vocabulary struct {
	shop  []meaning
	steps map[string]Step
	types map[string]Type
}

func newVocabulary() vocabulary {
	v := vocabulary{shop: meanings(), steps: map[string]Step{}, types: typeNames()}
	for _, m := range v.shop {
		if m.step != StepNone {
			v.steps[m.name] = m.step
		}
	}
	return v
}

// goods is what the conditions look at.
type goods struct {
	product  bool
	list     bool
	negative quantities
}

// fromShop gives an event of the shop contract its type, name and step; false for an unknown type.
func (v *vocabulary) fromShop(e *Event, shopType string, g goods) bool {
	for i := range v.shop {
		m := &v.shop[i]
		if m.shopType != shopType {
			continue
		}
		switch m.when {
		case withProduct:
			if !g.product {
				continue
			}
		case withList:
			if !g.list {
				continue
			}
		case withNegativeQuantity:
			if !g.negative.refund() {
				continue
			}
		case always:
		}
		e.Type, e.Name, e.Step = m.typ, m.name, m.step
		return true
	}
	return false
}

// fromName gives a track event its step by its name. An order whose lines are all taken back is a refund.
func (v *vocabulary) fromName(e *Event) {
	if e.Type != TypeTrack {
		return
	}
	e.Step = v.steps[e.Name]
	if e.Step == StepPurchase && orderLines(e.Properties).refund() {
		e.Name, e.Step = orderRefunded, StepRefund
	}
}

// quantities tells which signs the quantities of an order have.
type quantities struct{ negative, positive bool }

// refund is true when something is taken back and nothing bought; an exchange stays an order with a negative line.
func (q quantities) refund() bool { return q.negative && !q.positive }

func (q *quantities) add(v jsonscan.Value) {
	switch s := v.Text(); {
	case s == "":
	case s[0] == '-':
		q.negative = true
	default:
		q.positive = true
	}
}

// orderLines reads the quantities of properties.products[], else of the properties themselves.
func orderLines(properties string) quantities {
	var own, lines quantities
	s := jsonscan.New(properties, 1)
	_, _ = members(s, func(name string, v jsonscan.Value) {
		switch name {
		case "products":
			productLines(v.Raw, &lines)
		case "quantity", "qty":
			own.add(v)
		}
	})
	if lines.negative || lines.positive {
		return lines
	}
	return own
}

// productLines adds the quantities of an array of lines and returns how many lines there are.
func productLines(raw string, q *quantities) int {
	s := jsonscan.New(raw, 1)
	if s.Next() != jsonscan.Array {
		return 0
	}
	s.Enter()
	for i := 0; ; i++ {
		if ok, err := s.Element(i); err != nil || !ok {
			return i
		}
		line, err := members(s, func(name string, v jsonscan.Value) {
			if name == "quantity" || name == "qty" {
				q.add(v)
			}
		})
		if err != nil || line.Kind == jsonscan.None {
			return i
		}
	}
}

// members reads the value that comes and, when it is an object, shows each of its members to fn.
func members(s *jsonscan.Scanner, fn func(name string, v jsonscan.Value)) (jsonscan.Value, error) {
	if s.Next() != jsonscan.Object {
		return s.Value()
	}
	whole := jsonscan.Value{Kind: jsonscan.Object}
	start := s.Pos()
	s.Enter()
	for i := 0; ; i++ {
		name, ok, err := s.Member(i)
		if err != nil {
			return whole, err
		}
		if !ok {
			whole.Raw = s.Since(start)
			return whole, nil
		}
		v, err := s.Value()
		if err != nil {
			return whole, err
		}
		whole.Flaw |= v.Flaw
		fn(name, v)
	}
}
