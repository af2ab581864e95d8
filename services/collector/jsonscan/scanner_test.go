package jsonscan_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/collector/jsonscan"
)

func value(text string, depth int) (jsonscan.Value, error) {
	s := jsonscan.New(text, depth)
	v, err := s.Value()
	if err == nil {
		err = s.End()
	}
	return v, err
}

func TestValueIsHandedOutAsSent(t *testing.T) {
	t.Parallel()
	for text, kind := range map[string]jsonscan.Kind{
		`{"a":[1,-2.5e+3,{"b":null}],"c":"\u00e9é\n"}`: jsonscan.Object,
		`[ ]`: jsonscan.Array, `{ }`: jsonscan.Object, `"x"`: jsonscan.String, `0`: jsonscan.Number, `-0.0E-1`: jsonscan.Number,
		`true`: jsonscan.Bool, `false`: jsonscan.Bool, `null`: jsonscan.Null, `"\ud800"`: jsonscan.String,
		`12345678901234567890123`: jsonscan.Number,
	} {
		v, err := value("\ufeff \n"+text+"\t\r", 10)
		require.NoError(t, err, text)
		require.Equal(t, jsonscan.Value{Raw: text, Kind: kind}, v)
	}
}

func TestBrokenTextIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `{`, `[`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a":1 "b":2}`, `{a:1}`, `01`, `-`, `1.`, `1e`, `+1`, `.5`,
		`"`, `"\x"`, `"\u12g4"`, "\"\n\"", `tru`, `nul`, `truex`, `{} {}`, `]`, `{]`, `[}`, `NaN`, `'a'`, `"\`, `"\u1`,
		strings.Repeat("[", 1002) + strings.Repeat("]", 1002),
	} {
		_, err := value(text, 2000)
		var bad *jsonscan.Error
		require.ErrorAs(t, err, &bad, text)
		require.LessOrEqual(t, bad.Offset, len(text))
	}
}

func TestFlawsAreForgivable(t *testing.T) {
	t.Parallel()
	v, err := value(`{"a":"`+"\xff"+`"}`, 5)
	require.NoError(t, err)
	require.Equal(t, jsonscan.InvalidUTF8, v.Flaw)
	v, err = value(`{"`+"\xc3"+`":1}`, 5)
	require.NoError(t, err)
	require.Equal(t, jsonscan.InvalidUTF8, v.Flaw)
	v, err = value(`[[[1]]]`, 2)
	require.NoError(t, err)
	require.Equal(t, jsonscan.TooDeep, v.Flaw)
	v, err = value(`[[[1]]]`, 3)
	require.NoError(t, err)
	require.Zero(t, v.Flaw)
}

func TestStepsIntoObjectsAndArrays(t *testing.T) {
	t.Parallel()
	s := jsonscan.New(`{"first":1,"l\u0069st":[{"x":"y"},"\ud83d\ude00"],"last":null}`, 9)
	require.Equal(t, jsonscan.Object, s.Next())
	s.Enter()
	var names, elements []string
	for i := 0; ; i++ {
		name, ok, err := s.Member(i)
		require.NoError(t, err)
		if !ok {
			break
		}
		names = append(names, name)
		if name != "list" {
			_, err = s.Value()
			require.NoError(t, err)
			continue
		}
		require.Equal(t, jsonscan.Array, s.Next())
		s.Enter()
		for j := 0; ; j++ {
			ok, err := s.Element(j)
			require.NoError(t, err)
			if !ok {
				break
			}
			start := s.Pos()
			v, err := s.Value()
			require.NoError(t, err)
			require.Equal(t, v.Raw, s.Since(start))
			elements = append(elements, v.Raw+v.Text())
		}
	}
	require.NoError(t, s.End())
	require.Equal(t, []string{"first", "list", "last"}, names)
	require.Equal(t, []string{`{"x":"y"}`, `"\ud83d\ude00"😀`}, elements)
}

func FuzzAgreesWithTheStandardLibrary(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e3,"x\n\u00e9é"],"b":{}}`, `"\ud800\u0041"`, `[[]]`, "\"\xff\"", `{"a":1}x`, `-0`, `"1234567\"89"`, `"\/"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "\ufeff") {
			return
		}
		v, err := value(text, 20)
		var bad *jsonscan.Error
		if errors.As(err, &bad) && strings.Contains(bad.Reason, "deeply") {
			return
		}
		require.Equal(t, json.Valid([]byte(text)), err == nil, "%q: %v", text, err)
		if err != nil {
			return
		}
		if strings.HasPrefix(v.Raw, `"`) && utf8.ValidString(text) {
			var want string
			require.NoError(t, json.Unmarshal([]byte(text), &want))
			require.Equal(t, want, v.Text())
		}
		if v.Flaw == 0 && !strings.Contains(strings.ToLower(text), `\ud`) {
			strict := jsontext.Value(text)
			require.True(t, strict.IsValid(jsontext.AllowDuplicateNames(true)), "%q", text)
		}
	})
}

func BenchmarkValue(b *testing.B) {
	text := `{"event":"Product Viewed","properties":{"product_id":"sku-123","name":"` + strings.Repeat("Điện thoại thông minh ", 10) +
		`","url":"` + strings.Repeat("https://shop.example/path/", 10) + `","price":18990000,"list":[1,2,3,4],"ok":true},"context":{"a":{"b":"c"}}}`
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := jsonscan.New(text, 64).Value(); err != nil {
			b.Fatal(err)
		}
	}
}
