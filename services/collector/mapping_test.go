package collector

import (
	"testing"

	"github.com/stretchr/testify/require"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
)

func TestShopEventsGetTheirNameAndStep(t *testing.T) {
	t.Parallel()
	const product = `"ecom":{"product_id":"sku-1","qty":1}`
	for body, want := range map[string]struct {
		typ  collectorv1.EventType
		name string
		step collectorv1.ShopStep
	}{
		`"event_type":"view",` + product:                                  {collectorv1.EventType_EVENT_TYPE_TRACK, "Product Viewed", collectorv1.ShopStep_SHOP_STEP_VIEW},
		`"event_type":"view","ecom":{"product_id":null}`:                  {collectorv1.EventType_EVENT_TYPE_PAGE, "", collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED},
		`"event_type":"view"`:                                             {collectorv1.EventType_EVENT_TYPE_PAGE, "", collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED},
		`"event_type":"view","list":"home",` + product:                    {collectorv1.EventType_EVENT_TYPE_TRACK, "Product List Viewed", collectorv1.ShopStep_SHOP_STEP_IMPRESSION},
		`"event_type":"view","list":null,"products":[{"product_id":"a"}]`: {collectorv1.EventType_EVENT_TYPE_TRACK, "Product Viewed", collectorv1.ShopStep_SHOP_STEP_VIEW},
		`"event_type":"view","ecom":null,"products":[]`:                   {collectorv1.EventType_EVENT_TYPE_PAGE, "", collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED},
		`"event_type":"click","list":"home",` + product:                   {collectorv1.EventType_EVENT_TYPE_TRACK, "Product Clicked", collectorv1.ShopStep_SHOP_STEP_CLICK},
		`"event_type":"click"`:                                            {collectorv1.EventType_EVENT_TYPE_TRACK, "Element Clicked", collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED},
		`"event_type":"search"`:                                           {collectorv1.EventType_EVENT_TYPE_TRACK, "Products Searched", collectorv1.ShopStep_SHOP_STEP_SEARCH},
		`"event_type":"add_to_cart",` + product:                           {collectorv1.EventType_EVENT_TYPE_TRACK, "Product Added", collectorv1.ShopStep_SHOP_STEP_ADD_TO_CART},
		`"event_type":"checkout"`:                                         {collectorv1.EventType_EVENT_TYPE_TRACK, "Checkout Started", collectorv1.ShopStep_SHOP_STEP_CHECKOUT},
		`"event_type":"purchase",` + product:                              {collectorv1.EventType_EVENT_TYPE_TRACK, "Order Completed", collectorv1.ShopStep_SHOP_STEP_PURCHASE},
		`"event_type":"purchase","ecom":{"product_id":"a","qty":-1}`:      {collectorv1.EventType_EVENT_TYPE_TRACK, "Order Refunded", collectorv1.ShopStep_SHOP_STEP_REFUND},
		`"event_type":"purchase","products":[{"qty":2},{"qty":-1}]`:       {collectorv1.EventType_EVENT_TYPE_TRACK, "Order Completed", collectorv1.ShopStep_SHOP_STEP_PURCHASE},
		`"event_type":"purchase","products":[{"quantity":-2},{"qty":-1}]`: {collectorv1.EventType_EVENT_TYPE_TRACK, "Order Refunded", collectorv1.ShopStep_SHOP_STEP_REFUND},
	} {
		b := setup(t)
		got := b.post("/v1/events", `{"anonymous_id":"a",`+body+`}`)
		require.Equal(t, "ok", got.results(t)[0].Status, body)
		e := b.log.events(t)[0]
		require.Equal(t, want.typ, e.GetType(), body)
		require.Equal(t, want.name, e.GetName(), body)
		require.Equal(t, want.step, e.GetShopStep(), body)
	}
}

func TestTheSameNamesGetTheSameStepFromEverySDK(t *testing.T) {
	t.Parallel()
	for event, want := range map[string]collectorv1.ShopStep{
		"Product List Viewed": collectorv1.ShopStep_SHOP_STEP_IMPRESSION,
		"Product Viewed":      collectorv1.ShopStep_SHOP_STEP_VIEW,
		"Product Clicked":     collectorv1.ShopStep_SHOP_STEP_CLICK,
		"Products Searched":   collectorv1.ShopStep_SHOP_STEP_SEARCH,
		"Product Added":       collectorv1.ShopStep_SHOP_STEP_ADD_TO_CART,
		"Checkout Started":    collectorv1.ShopStep_SHOP_STEP_CHECKOUT,
		"Order Completed":     collectorv1.ShopStep_SHOP_STEP_PURCHASE,
		"Order Refunded":      collectorv1.ShopStep_SHOP_STEP_REFUND,
		"Element Clicked":     collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED,
		"Anything Else":       collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED,
	} {
		b := setup(t)
		require.Equal(t, 200, b.post("/v1/track", `{"userId":"u","event":"`+event+`","properties":{"products":[{"quantity":1}]}}`).code)
		e := b.log.events(t)[0]
		require.Equal(t, want, e.GetShopStep(), event)
		require.Equal(t, event, e.GetName())
	}
}

func TestOrderTakenBackIsARefund(t *testing.T) {
	t.Parallel()
	for properties, want := range map[string]string{
		`{"quantity":-1}`: "Order Refunded",
		`{"products":[{"quantity":-1}],"quantity":3}`:     "Order Refunded",
		`{"products":[{"quantity":-1},{"quantity":"2"}]}`: "Order Completed",
		`{"products":"none"}`:                             "Order Completed",
		`{"products":[1,[],{"quantity":{}}]}`:             "Order Completed",
		`{}`:                                              "Order Completed",
	} {
		b := setup(t)
		require.Equal(t, 200, b.post("/v1/track", `{"userId":"u","event":"Order Completed","properties":`+properties+`}`).code)
		require.Equal(t, want, b.log.events(t)[0].GetName(), properties)
	}
}

func TestNumbersAreThoseOfTheProto(t *testing.T) {
	t.Parallel()
	for name, typ := range typeNames() {
		require.Equal(t, collectorv1.EventType_value["EVENT_TYPE_"+upper(name)], int32(typ), name)
	}
	for step, name := range map[Step]string{
		StepImpression: "IMPRESSION", StepView: "VIEW", StepClick: "CLICK", StepSearch: "SEARCH",
		StepAddToCart: "ADD_TO_CART", StepCheckout: "CHECKOUT", StepPurchase: "PURCHASE", StepRefund: "REFUND",
	} {
		require.Equal(t, collectorv1.ShopStep_value["SHOP_STEP_"+name], int32(step), name)
	}
}
