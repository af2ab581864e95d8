package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

func TestWorkspaceValidate(t *testing.T) {
	t.Parallel()
	good := Workspace{Slug: "shop-1", Name: "Cửa hàng", TimeZone: "Asia/Ho_Chi_Minh", Currency: "VND"}
	require.NoError(t, good.Validate())
	for name, tc := range map[string]struct {
		spoil  func(*Workspace)
		fields []string
	}{
		"no name":            {func(w *Workspace) { w.Name = "" }, []string{"name"}},
		"100 characters":     {func(w *Workspace) { w.Name = strings.Repeat("ử", 100) }, nil},
		"101 characters":     {func(w *Workspace) { w.Name = strings.Repeat("ử", 101) }, []string{"name"}},
		"control character":  {func(w *Workspace) { w.Name = "a\x00b" }, []string{"name"}},
		"broken text":        {func(w *Workspace) { w.Name = "a\xffb" }, []string{"name"}},
		"upper case slug":    {func(w *Workspace) { w.Slug = "Shop" }, []string{"slug"}},
		"slug begins with -": {func(w *Workspace) { w.Slug = "-shop" }, []string{"slug"}},
		"slug ends with -":   {func(w *Workspace) { w.Slug = "shop-" }, []string{"slug"}},
		"slug too long":      {func(w *Workspace) { w.Slug = strings.Repeat("a", 64) }, []string{"slug"}},
		"slug like an id":    {func(w *Workspace) { w.Slug = ids.New() }, []string{"slug"}},
		"one letter":         {func(w *Workspace) { w.Slug = "a" }, nil},
		"Local":              {func(w *Workspace) { w.TimeZone = "Local" }, []string{"time_zone"}},
		"offset":             {func(w *Workspace) { w.TimeZone = "+07:00" }, []string{"time_zone"}},
		"path":               {func(w *Workspace) { w.TimeZone = "../../etc/passwd" }, []string{"time_zone"}},
		"UTC":                {func(w *Workspace) { w.TimeZone = "UTC" }, nil},
		"no such currency":   {func(w *Workspace) { w.Currency = "ABC" }, []string{"currency"}},
		"no currency":        {func(w *Workspace) { w.Currency = "XXX" }, []string{"currency"}},
		"lower case":         {func(w *Workspace) { w.Currency = "vnd" }, []string{"currency"}},
		"all of it": {
			func(w *Workspace) { *w = Workspace{} }, []string{"name", "slug", "time_zone", "currency"},
		},
	} {
		w := good
		tc.spoil(&w)
		requireFields(t, w.Validate(), name, tc.fields)
	}
	require.Equal(t, good, Workspace{Slug: " shop-1", Name: "Cửa hàng ", Currency: "vnd"}.Normalize())
}

// requireFields wants one Invalid error that names exactly these fields.
func requireFields(t *testing.T, err error, name string, fields []string) {
	t.Helper()
	if len(fields) == 0 {
		require.NoError(t, err, name)
		return
	}
	require.Equal(t, errs.Invalid, errs.KindOf(err), name)
	var named []string
	for problem := range strings.SplitSeq(errs.MessageOf(err), "; ") {
		field, _, _ := strings.Cut(problem, ":")
		named = append(named, field)
	}
	require.Equal(t, fields, named, name)
}

func TestSourceValidate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		source Source
		fields []string
	}{
		"web":                 {Source{Name: "n", Type: SourceWeb, Origins: []string{"https://shop.example"}}, nil},
		"server":              {Source{Name: "n", Type: SourceServer}, nil},
		"server with origins": {Source{Name: "n", Type: SourceServer, Origins: []string{"https://shop.example"}}, []string{"origins"}},
		"no type":             {Source{Name: "n"}, []string{"type"}},
		"all of it":           {Source{Type: "x", Origins: []string{"https://a", "x", "*"}}, []string{"name", "type", "origins[1]", "origins[2]"}},
		"too many":            {Source{Name: "n", Type: SourceWeb, Origins: make([]string, 101)}, []string{"origins"}},
	} {
		requireFields(t, tc.source.Validate(), name, tc.fields)
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]string{
		"https://shop.example":                "https://shop.example",
		"HTTPS://Shop.Example":                "https://shop.example",
		"https://shop.example:443":            "https://shop.example",
		"http://shop.example:80":              "http://shop.example",
		"http://shop.example:443":             "http://shop.example:443",
		"http://localhost:3000":               "http://localhost:3000",
		"http://127.0.0.1:3000":               "http://127.0.0.1:3000",
		"http://[::1]:3000":                   "http://[::1]:3000",
		"http://[0:0::1]":                     "http://[::1]",
		"https://*.shop.example":              "https://*.shop.example",
		"https://*.shop.example:8443":         "https://*.shop.example:8443",
		"https://cửahàng.example":             "https://xn--cahng-tqa2694c.example",
		"capacitor://localhost":               "capacitor://localhost",
		"":                                    "",
		"*":                                   "",
		"null":                                "",
		"shop.example":                        "",
		"https://":                            "",
		"https://shop.example/path":           "",
		"https://shop.example?x":              "",
		"https://me@shop.example":             "",
		"https://shop.example:0":              "",
		"https://shop.example.":               "https://shop.example.",
		"https://shop.example:99999":          "",
		"https://*":                           "",
		"https://*.example":                   "",
		"https://*.127.0.0.1":                 "",
		"https://shop.*.example":              "",
		"https://*.*.example":                 "",
		"https://a b.example":                 "",
		"https://shop.example\n":              "",
		"https://shop..example":               "",
		"1https://shop.example":               "",
		"https://xn--a.example":               "",
		"https://" + strings.Repeat("a", 300): "",
	} {
		got, problem := parseOrigin(origin)
		require.Equal(t, want, got, origin)
		require.Equal(t, want == "", problem != "", origin)
		if want != "" {
			again, _ := parseOrigin(got)
			require.Equal(t, got, again, "a normal form stays")
		}
	}
	require.Equal(t, []string{"https://a.example", "x"}, normalizeOrigins([]string{" https://A.example", "https://a.example:443", "x"}))
}

func TestScopesAndSecrets(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range Scopes() {
		require.False(t, seen[s.Name])
		require.NotEmpty(t, s.Meaning)
		seen[s.Name] = true
		requireFields(t, APIToken{Name: "n", Scopes: []string{s.Name}}.Validate(start), s.Name, nil)
	}
	requireFields(t, APIToken{Scopes: []string{"x"}, ExpiresAt: start}.Validate(start), "all of it", []string{"name", "scopes", "expires_at"})
	for range 200 {
		key := newWriteKey()
		require.Regexp(t, `^wk_[0-9A-Za-z]{33}$`, key)
		require.False(t, seen[key])
		seen[key] = true
	}
}

func TestRevisionsRise(t *testing.T) {
	t.Parallel()
	require.Equal(t, start.UnixMicro(), nextRevision(0, start))
	require.Equal(t, start.UnixMicro()+1, nextRevision(start.UnixMicro(), start.Add(-time.Hour)), "the clock went back")
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	bad := DefaultConfig()
	bad.DeletedRetention, bad.MaxSources, bad.SnapshotWait = time.Hour, 0, -1
	err := bad.Validate()
	for _, name := range []string{"admin.deleted_retention", "admin.max_sources", "admin.snapshot_wait"} {
		require.Contains(t, errs.MessageOf(err), name)
	}
	bad = DefaultConfig()
	bad.Outbox.BatchSize = 0
	require.Error(t, bad.Validate())
}
