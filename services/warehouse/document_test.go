package warehouse

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	identityv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/identity/v1"
)

// traps are documents that the JSON type refuses or bends, and what they become.
func traps() map[string]struct {
	doc, want string
	flags     []string
} {
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	deepWant := strings.Repeat(`{"a":`, 32) + `"` + strings.ReplaceAll(strings.Repeat(`{"a":`, 8)+"1"+strings.Repeat("}", 8), `"`, `\"`) + `"` + strings.Repeat("}", 32)
	return map[string]struct {
		doc, want string
		flags     []string
	}{
		"integer of 23 digits":     {`{"a":12345678901234567890123}`, `{"a":"12345678901234567890123"}`, []string{flagNumberAsText}},
		"integer above 64 bits":    {`{"a":18446744073709551616}`, `{"a":"18446744073709551616"}`, []string{flagNumberAsText}},
		"integer below 64 bits":    {`{"a":-9223372036854775809}`, `{"a":"-9223372036854775809"}`, []string{flagNumberAsText}},
		"in an array":              {`{"a":[1,12345678901234567890123]}`, `{"a":[1,"12345678901234567890123"]}`, []string{flagNumberAsText}},
		"exponent beyond a float":  {`{"a":1e400}`, `{"a":"1e400"}`, []string{flagNumberAsText}},
		"dot in a key":             {`{"a.b":1,"a":{"b":2}}`, `{"a%2Eb":1,"a":{"b":2}}`, []string{flagKeyEscaped}},
		"escaped dot in a key":     {`{"a\u002eb":1,"a":{"b":2}}`, `{"a%2Eb":1,"a":{"b":2}}`, []string{flagKeyEscaped}},
		"equal keys":               {`{"a":1,"b":2,"a":3}`, `{"b":2,"a":3}`, []string{flagDuplicateKey}},
		"equal keys of objects":    {`{"a":{"b":1},"c":0,"a":{"d":1,"d":2},"c":1}`, `{"a":{"d":2},"c":1}`, []string{flagDuplicateKey}},
		"equal keys in a line":     {`{"p":[{"b":1,"b":2}]}`, `{"p":[{"b":2}]}`, []string{flagDuplicateKey}},
		"equal keys after escapes": {`{"a.b":1,"a%2Eb":2}`, `{"a%2Eb":2}`, []string{flagKeyEscaped, flagDuplicateKey}},
		"lone surrogate":           {`{"a":"x\ud800y"}`, `{"a":"x` + "\uFFFD" + `y"}`, []string{flagTextRepaired}},
		"broken bytes":             {"{\"a\xff\":\"\xfe\"}", "{\"a\uFFFD\":\"\uFFFD\"}", []string{flagTextRepaired}},
		"too deep":                 {deep, deepWant, []string{flagDeepAsText}},
		"an array":                 {`[1]`, `{}`, []string{flagNotObject}},
		"no JSON":                  {`{"a":`, `{}`, []string{flagNotObject}},
		"more than one":            {`{"a":1} {}`, `{}`, []string{flagNotObject}},
		"escape in a key":          {`{"\u0061b":1}`, `{"ab":1}`, nil},
		"several at once":          {`{"a.b":1e999,"a":[{"x":1,"x":123456789012345678901}]}`, `{"a%2Eb":"1e999","a":[{"x":"123456789012345678901"}]}`, []string{flagNumberAsText, flagKeyEscaped, flagDuplicateKey}},
	}
}

// harmless are documents that go into the JSON type as they are.
func harmless() []string {
	return []string{
		`{}`, ` { "a" : 1 } `, `{"a":null,"b":{},"c":[],"d":[null],"e":[{}]}`, `{"a":18446744073709551615,"b":-9223372036854775808}`,
		`{"a":1e308,"b":0.1234567890123456789012,"c":-0,"d":1E2,"e":0.1e-400}`, `{"a":[1,"x",{"b":1},[2],null,true]}`, `{"":1,"x":{"":2}}`,
		`{"a":"\u0000x\n\"\\\/","é":"😀"}`, `{"a":"2026-1-5","b":"2026-10-18 12:34:56","c":"1850-01-01","d":"2026-10-18T12:34:56Z"}`,
		strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32), `{"a` + "`" + `b":1,"c d":2,"e[]":3}`,
	}
}

func TestRewriteDisarmsTraps(t *testing.T) {
	t.Parallel()
	for name, tc := range traps() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := build(t, resolved(0, 0, withProperties(tc.doc)))
			require.Equal(t, tc.doc, row.Properties, "what was sent stays")
			require.Equal(t, tc.want, row.PropertiesJSON)
			require.Equal(t, tc.flags, row.Flags)
		})
	}
	for _, doc := range harmless() {
		row := build(t, resolved(0, 0, withProperties(doc)))
		require.Equal(t, doc, row.Properties)
		require.Empty(t, row.PropertiesJSON, "%s", doc)
		require.Empty(t, row.Flags)
	}
}

// Each trap is stored in one batch with all others: a single one that is not disarmed fails all of them.
func TestClickHouseTakesEveryTrap(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	docs := harmless()
	for _, tc := range traps() {
		docs = append(docs, tc.doc)
	}
	var rows []*Row
	for i, doc := range docs {
		rows = append(rows, build(t, resolved(0, int64(i), func(e *identityv1.ResolvedEvent) {
			e.Event.Properties, e.Event.Context, e.Event.Traits = []byte(doc), []byte(doc), []byte(doc)
		})))
	}
	batch := newBatch(len(rows))
	require.NoError(t, tables.Insert(t.Context(), batch, rows))
	requireCounts(t, tables, batch, len(rows))
	for i, doc := range docs {
		var raw string
		require.NoError(t, tables.db.QueryRow(t.Context(), "SELECT properties_raw FROM fact_events WHERE event_id = ?", []any{rows[i].EventID}, &raw))
		require.Equal(t, doc, raw)
	}
}

// What is in the JSON column means the same as what was sent, but for what the JSON type cannot hold.
func TestClickHouseKeepsValues(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	for i, tc := range []struct{ doc, path, want string }{
		{`{"a":"2026-1-5"}`, "properties.a::String", "2026-1-5"},
		{`{"a":"2026-10-18T12:34:56"}`, "properties.a::String", "2026-10-18T12:34:56"},
		{`{"a":"2026-10-18"}`, "dynamicType(properties.a)", "String"},
		{`{"a":{"b":12}}`, "properties.a.b::String", "12"},
		{`{"a":12345678901234567890123}`, "properties.a::String", "12345678901234567890123"},
		{`{"a.b":1,"a":{"b":2}}`, "properties.a.b::String", "2"},
		{`{"a.b":1,"a":{"b":2}}`, "properties.`a%2Eb`::String", "1"},
		{`{"a":true}`, "dynamicType(properties.a)", "Bool"},
		{`{"a":null}`, "toString(isNull(properties.a))", "1"},
	} {
		row := build(t, resolved(0, int64(i), withProperties(tc.doc)))
		require.NoError(t, tables.Insert(t.Context(), newBatch(1), []*Row{row}))
		var got string
		require.NoError(t, tables.db.QueryRow(t.Context(), "SELECT "+tc.path+" FROM fact_events WHERE event_id = ?", []any{row.EventID}, &got))
		require.Equal(t, tc.want, got, "%s of %s", tc.path, tc.doc)
	}
}

func genValue(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kinds := 7
		if depth == 0 {
			kinds = 5
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return rapid.SampledFrom([]string{"null", "true", "false", `""`, "{}", "[]"}).Draw(t, "word")
		case 1:
			return rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})`).Draw(t, "int")
		case 2:
			return rapid.StringMatching(`-?(0|[1-9][0-9]{0,4})\.[0-9]{1,30}([eE][+-]?[0-9]{1,3})?`).Draw(t, "float")
		case 3:
			return rapid.SampledFrom([]string{`"\ud800"`, `"\ud83d\ude00"`, `"2026-01-02"`, `"12:30"`, `"a\u0000b"`, "\"\xff\"", `"\u002e"`}).Draw(t, "odd")
		case 4:
			quoted, err := json.Marshal(rapid.String().Draw(t, "text"))
			if err != nil {
				t.Fatal(err)
			}
			return string(quoted)
		case 5:
			return "[" + strings.Join(rapid.SliceOfN(genValue(depth-1), 0, 4).Draw(t, "array"), ",") + "]"
		default:
			return genObject(depth-1).Draw(t, "object")
		}
	})
}

func genObject(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var members []string
		for range rapid.IntRange(0, 5).Draw(t, "members") {
			key := rapid.SampledFrom([]string{`"a"`, `"b"`, `"a.b"`, `"a%2Eb"`, `""`, `"."`, `"a\u002eb"`, `"\u0061"`, "\"\xff\"", `"é"`, `"a[]"`, "\"`\""}).Draw(t, "key")
			members = append(members, key+":"+genValue(depth).Draw(t, "value"))
		}
		return "{" + strings.Join(members, ",") + "}"
	})
}

// Any document at all becomes something that ClickHouse takes: batches of random ones go in whole.
func TestClickHouseTakesAnyDocument(t *testing.T) {
	t.Parallel()
	tables := openClickHouseTables(t)
	rapid.Check(t, func(rt *rapid.T) {
		var rows []*Row
		for i, doc := range rapid.SliceOfN(genObject(4), 1, 40).Draw(rt, "docs") {
			rows = append(rows, build(t, resolved(0, int64(i), withProperties(doc), withContext(doc))))
		}
		require.NoError(t, tables.write(t.Context(), "events_probe", tables.probe, "", rows))
	})
}

func FuzzDocument(f *testing.F) {
	for _, tc := range traps() {
		f.Add([]byte(tc.doc))
	}
	for _, doc := range harmless() {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		row := build(t, resolved(0, 0, withProperties(string(doc))))
		require.Equal(t, string(doc), row.Properties)
		if row.PropertiesJSON == "" && len(doc) > 0 {
			require.NoError(t, newReader().read(doc, nil, row))
		}
		if row.PropertiesJSON != "" {
			require.NoError(t, newReader().read([]byte(row.PropertiesJSON), nil, row), "what was rewritten has no trap left")
			require.NotContains(t, row.Flags, flagDocumentRefused)
			require.True(t, json.Valid([]byte(row.PropertiesJSON)))
		}
	})
}
