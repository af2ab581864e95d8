package warehouse

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	collectorv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/collector/v1"
	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "19.99": 19_990_000, "-5": -5_000_000, "18990000": 18_990_000_000_000, "1.5e3": 1_500_000_000, "1E-3": 1_000,
		"0.0000005": 1, "0.0000004": 0, "19.990000000000002": 19_990_000, "+3": 3_000_000, ".5": 500_000, "5.": 5_000_000,
		"0.99999999999999999999999": 1_000_000, "1e-30": 0, "0e999": 0, "9223372036854": 9_223_372_036_854_000_000,
		"0.000000499999999999999999": 0,
	} {
		got, ok := parseAmount(text)
		require.True(t, ok, text)
		require.Equal(t, amount{micros: want, set: true}, got, text)
	}
	for _, text := range []string{"", "-", "abc", "1,5", "1e", "1e+", "1e99999", "12e12", "99999999999999999999", "1.2.3", "0x10", "NaN", "1 "} {
		_, ok := parseAmount(text)
		require.False(t, ok, text)
	}
}

func TestAmountArithmetic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := amount{micros: rapid.Int64Range(-math.MaxInt64, math.MaxInt64).Draw(t, "a"), set: true}
		b := amount{micros: rapid.Int64Range(-math.MaxInt64, math.MaxInt64).Draw(t, "b"), set: true}
		sum := new(big.Int).Add(big.NewInt(a.micros), big.NewInt(b.micros))
		got, ok := a.plus(b)
		require.Equal(t, sum.IsInt64(), ok)
		if ok {
			require.Equal(t, sum.Int64(), got.micros)
		}
		product := new(big.Int).Mul(big.NewInt(a.micros), big.NewInt(b.micros))
		half := big.NewInt(microsPerUnit / 2)
		if product.Sign() < 0 {
			half.Neg(half)
		}
		product.Quo(product.Add(product, half), big.NewInt(microsPerUnit))
		got, ok = a.times(b)
		require.Equal(t, product.IsInt64() && product.Int64() != math.MinInt64, ok)
		if ok {
			require.Equal(t, product.Int64(), got.micros)
		}
	})
}

func TestPageAddress(t *testing.T) {
	t.Parallel()
	var row Row
	row.pageOf("https://shop.example/p/123?utm_source=news%20letter&utm_campaign=a+b&gclid=x1&utm_medium=&q=1#utm_term=no")
	require.Equal(t, "/p/123", row.text[fieldPagePath])
	require.Equal(t, "news letter", row.text[fieldUTMSource])
	require.Equal(t, "a b", row.text[fieldUTMCampaign])
	require.Equal(t, "x1", row.text[fieldClickID])
	require.Empty(t, row.text[fieldUTMMedium])
	require.Empty(t, row.text[fieldUTMTerm])
	for address, want := range map[string]string{
		"https://www.Google.com:8080/search?q=1": "google.com", "http://user@a.example?x": "a.example", "android-app://com.x": "com.x",
		"https://[::1]:80/": "[::1]", "not an address": "", "": "",
	} {
		require.Equal(t, want, domainOf(address), address)
	}
}

func TestRowOfAShopEvent(t *testing.T) {
	t.Parallel()
	row := build(t, resolved(4, 9, withStep(collectorv1.ShopStep_SHOP_STEP_PURCHASE), withProperties(`{"event_id":"x","page_url":"https://shop.example/p/123?utm_source=g",
		"referrer":"https://google.com","device":{"type":"mobile"},"geo":{"country":"VN","city":null},
		"ecom":{"product_id":"sku-123","category":"Laptops","currency":"vnd","price":18990000,"qty":2},"props":{"search_query":"gaming laptop"}}`)))
	require.Equal(t, map[string]string{
		"page_url": "https://shop.example/p/123?utm_source=g", "page_path": "/p/123", "utm_source": "g", "referrer": "https://google.com",
		"device_type": "mobile", "country": "VN", "product_id": "sku-123", "category": "Laptops", "currency": "VND",
		"search_query": "gaming laptop", "order_id": "event-4-9",
	}, filled(row))
	require.Equal(t, amount{18_990_000 * microsPerUnit, true}, row.Price)
	require.Equal(t, amount{2 * microsPerUnit, true}, row.Quantity)
	require.Equal(t, amount{2 * 18_990_000 * microsPerUnit, true}, row.Revenue)
	require.Equal(t, "purchase", row.ShopStep)
	require.EqualValues(t, 4, row.Partition)
	require.EqualValues(t, 9, row.Offset)
}

func TestRowOfASegmentOrder(t *testing.T) {
	t.Parallel()
	products := `"products":[{"product_id":"a","price":10.5,"quantity":2},{"sku":"b","price":"3.25"},{"name":"free"}]`
	for name, tc := range map[string]struct {
		step  collectorv1.ShopStep
		doc   string
		want  amount
		flags []string
	}{
		"sum of the lines":             {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{` + products + `}`, amount{24_250_000, true}, nil},
		"revenue as given":             {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"revenue":24.25,` + products + `}`, amount{24_250_000, true}, nil},
		"a difference is flagged":      {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"total":30,` + products + `}`, amount{30_000_000, true}, []string{flagRevenueDiffers}},
		"revenue wins over total":      {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"revenue":20,"total":30}`, amount{20_000_000, true}, nil},
		"a refund is negative":         {collectorv1.ShopStep_SHOP_STEP_REFUND, `{"total":30}`, amount{-30_000_000, true}, nil},
		"a negative line is a refund":  {collectorv1.ShopStep_SHOP_STEP_REFUND, `{"price":10,"quantity":-2}`, amount{-20_000_000, true}, nil},
		"a view has none":              {collectorv1.ShopStep_SHOP_STEP_VIEW, `{"revenue":5,"price":5}`, amount{}, nil},
		"an own event may have one":    {collectorv1.ShopStep_SHOP_STEP_UNSPECIFIED, `{"revenue":"5"}`, amount{5_000_000, true}, nil},
		"nonsense is flagged":          {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"revenue":"a lot"}`, amount{}, []string{flagAmountRefused}},
		"nonsense in a line":           {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"products":[{"price":"x"}]}`, amount{}, []string{flagAmountRefused}},
		"a rewritten order adds once":  {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{` + products + `,"big":12345678901234567890123}`, amount{24_250_000, true}, []string{flagNumberAsText}},
		"lines of the shop contract":   {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"ecom":{"products":[{"price":1,"qty":3}]}}`, amount{3_000_000, true}, nil},
		"last of equal keys is meant":  {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"revenue":1,"revenue":2}`, amount{2_000_000, true}, []string{flagDuplicateKey}},
		"too much is no number at all": {collectorv1.ShopStep_SHOP_STEP_PURCHASE, `{"revenue":1e15}`, amount{}, []string{flagAmountRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := build(t, resolved(0, 0, withStep(tc.step), withProperties(tc.doc)))
			require.Equal(t, tc.want, row.Revenue)
			require.Equal(t, tc.flags, row.Flags)
		})
	}
}

func TestContextWinsWhereItKnowsBetter(t *testing.T) {
	t.Parallel()
	row := build(t, resolved(0, 0,
		withProperties(`{"url":"https://shop.example/product","title":"A product","query":"shoes","session_id":"s1"}`),
		withContext(`{"page":{"url":"https://shop.example/list?utm_source=x","title":"List","path":"/list","referrer":"https://www.a.example/"},
			"campaign":{"name":"spring","source":"mail"},"locale":"vi-VN","os":{"name":"iOS"},"location":{"country":"VN","city":"Hue"},
			"consent":{"categoryPreferences":{"ads":false,"stats":true,"odd":1}}}`)))
	require.Equal(t, map[string]string{
		"page_url": "https://shop.example/list?utm_source=x", "page_title": "List", "page_path": "/list", "referrer": "https://www.a.example/",
		"utm_campaign": "spring", "utm_source": "mail", "locale": "vi-VN", "os": "iOS", "country": "VN", "city": "Hue",
		"search_query": "shoes", "session_id": "s1",
	}, filled(row))
	require.Equal(t, []choice{{"ads", false}, {"stats", true}}, row.Consent)
}

func filled(row *Row) map[string]string {
	out := map[string]string{}
	for f, name := range fieldColumns() {
		if row.text[f] != "" {
			out[name] = row.text[f]
		}
	}
	return out
}

func TestUnbelievableTimesAreClamped(t *testing.T) {
	t.Parallel()
	received := testTime().Add(time.Second).UnixMilli()
	row := build(t, resolved(0, 0, withTime(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))))
	require.Equal(t, received, row.TS)
	require.Equal(t, []string{flagTimeClamped}, row.Flags)
	row = build(t, resolved(0, 0, func(e *identityv1.ResolvedEvent) { e.Event.Ts, e.Event.ReceivedAt = nil, nil }))
	require.Equal(t, time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), row.TS)
	row = build(t, resolved(0, 0, func(e *identityv1.ResolvedEvent) { e.Event.SentAt = timestamppb.New(testTime()) }))
	require.Equal(t, testTime().UnixMilli(), row.SentAt)
	require.Equal(t, noTime, row.OriginalTS)
}

func TestBuildRefusesWhatCannotBeARow(t *testing.T) {
	t.Parallel()
	for code, change := range map[string]func(*identityv1.ResolvedEvent){
		"workspace_id_invalid":    func(e *identityv1.ResolvedEvent) { e.Event.WorkspaceId = "x" },
		"source_id_invalid":       func(e *identityv1.ResolvedEvent) { e.Event.SourceId = "" },
		"profile_id_invalid":      func(e *identityv1.ResolvedEvent) { e.ProfileId = "x" },
		"event_hash_invalid":      func(e *identityv1.ResolvedEvent) { e.EventHash = []byte("short") },
		"event_position_invalid":  func(e *identityv1.ResolvedEvent) { e.SrcOffset = -1 },
		"identifier_hash_invalid": func(e *identityv1.ResolvedEvent) { e.Identifiers[0].Hash = nil },
	} {
		_, err := NewBuilder().Build(resolved(0, 0, change))
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		require.Equal(t, code, errs.CodeOf(err))
	}
	_, err := NewBuilder().Build(&identityv1.ResolvedEvent{})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
}
