package activation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// notes is an audit log.
type notes struct {
	list []string
	err  error
}

func (n *notes) Record(_ context.Context, p tenant.Principal, workspaceID, action, target string) error {
	if n.err == nil {
		n.list = append(n.list, p.Actor()+" "+workspaceID[:4]+" "+action+" "+strings.SplitN(target, ":", 2)[0])
	}
	return n.err
}

func newService() (*Service, *memoryStore, *notes) {
	store, audit := newMemoryStore(), &notes{}
	return &Service{store: store, audit: audit, now: func() time.Time { return start }}, store, audit
}

func as(t *testing.T, workspaceID string, scopes ...string) context.Context {
	t.Helper()
	return tenant.With(t.Context(), tenant.Principal{TokenID: "t", WorkspaceIDs: []string{workspaceID}, Scopes: scopes})
}

func hook(name string) DestinationInput {
	return DestinationInput{WorkspaceID: testWorkspace, Name: name, Enabled: true, Webhook: Webhook{URL: "https://receiver.example/x"}}
}

func TestDestinationLife(t *testing.T) {
	t.Parallel()
	s, _, audit := newService()
	ctx := as(t, testWorkspace, scopeWrite)
	in := hook("  first ")
	in.Filter = ` event.name == "x" `
	d, err := s.CreateDestination(ctx, in)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(Destination{
		WorkspaceID: testWorkspace, ID: d.ID, Name: "first", Enabled: true, Filter: `event.name == "x"`, Revision: 1, CreatedAt: start, UpdatedAt: start,
		Webhook: Webhook{URL: "https://receiver.example/x", BatchSize: 1, TimeoutS: 15}, SigningSecret: d.SigningSecret,
	}, d))
	require.True(t, ids.Valid(d.ID))
	_, err = sign(d.SigningSecret, "i", "1", nil)
	require.NoError(t, err)
	second, err := s.CreateDestination(ctx, hook("second"))
	require.NoError(t, err)
	require.NotEqual(t, d.SigningSecret, second.SigningSecret)

	got, queue, err := s.GetDestination(ctx, testWorkspace, d.ID)
	require.NoError(t, err)
	require.Equal(t, d, got)
	require.Zero(t, queue)
	in = hook("renamed")
	in.ID, in.Revision, in.Enabled = d.ID, 1, false
	d2, err := s.UpdateDestination(ctx, in)
	require.NoError(t, err)
	require.EqualValues(t, 2, d2.Revision)
	require.False(t, d2.Enabled)
	require.Equal(t, d.SigningSecret, d2.SigningSecret)
	_, err = s.UpdateDestination(ctx, in)
	require.Equal(t, "destination_changed", errs.CodeOf(err))
	list, err := s.ListDestinations(ctx, testWorkspace)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.NoError(t, s.DeleteDestination(ctx, testWorkspace, d.ID))
	require.Equal(t, errs.NotFound, errs.KindOf(s.DeleteDestination(ctx, testWorkspace, d.ID)))
	require.Equal(t, []string{
		"token:t 0198 destination.create destination", "token:t 0198 destination.create destination",
		"token:t 0198 destination.update destination", "token:t 0198 destination.delete destination",
	}, audit.list)
}

func TestWhatIsNotNotedIsNotDone(t *testing.T) {
	t.Parallel()
	s, store, audit := newService()
	ctx := as(t, testWorkspace, scopeWrite)
	d, err := s.CreateDestination(ctx, hook("a"))
	require.NoError(t, err)
	audit.err = errors.New("admin is away")
	_, err = s.CreateDestination(ctx, hook("b"))
	require.ErrorIs(t, err, audit.err)
	in := hook("c")
	in.ID, in.Revision = d.ID, 1
	_, err = s.UpdateDestination(ctx, in)
	require.ErrorIs(t, err, audit.err)
	require.ErrorIs(t, s.DeleteDestination(ctx, testWorkspace, d.ID), audit.err)
	list, err := store.List(ctx, testWorkspace, 10)
	require.NoError(t, err)
	require.Equal(t, []Destination{d}, list)
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	s, _, _ := newService()
	d, err := s.CreateDestination(as(t, testWorkspace, scopeWrite), hook("a"))
	require.NoError(t, err)
	calls := map[string]struct {
		write bool
		call  func(ctx context.Context) error
	}{
		"create": {true, func(ctx context.Context) error { _, err := s.CreateDestination(ctx, hook("b")); return err }},
		"update": {true, func(ctx context.Context) error {
			in := hook("a")
			in.ID, in.Revision = d.ID, 99
			_, err := s.UpdateDestination(ctx, in)
			return err
		}},
		"delete": {true, func(ctx context.Context) error { return s.DeleteDestination(ctx, testWorkspace, ids.New()) }},
		"get":    {false, func(ctx context.Context) error { _, _, err := s.GetDestination(ctx, testWorkspace, d.ID); return err }},
		"list":   {false, func(ctx context.Context) error { _, err := s.ListDestinations(ctx, testWorkspace); return err }},
	}
	for name, c := range calls {
		require.Equal(t, errs.Unauthenticated, errs.KindOf(c.call(t.Context())), name)
		require.Equal(t, errs.Forbidden, errs.KindOf(c.call(as(t, testWorkspace, "sources:write"))), name)
		require.Equal(t, "workspace_not_found", errs.CodeOf(c.call(as(t, ids.New(), scopeWrite))), name)
		require.NotEqual(t, errs.Forbidden, errs.KindOf(c.call(as(t, testWorkspace, scopeWrite))), name)
		reading := c.call(as(t, testWorkspace, scopeRead))
		require.Equal(t, c.write, errs.KindOf(reading) == errs.Forbidden && reading != nil, name)
	}
}

func TestDestinationsOfOthersDoNotExist(t *testing.T) {
	t.Parallel()
	s, store, _ := newService()
	theirs := insert(t, store, destination(ids.New(), "theirs"))
	ctx := as(t, testWorkspace, scopeWrite)
	_, _, err := s.GetDestination(ctx, testWorkspace, theirs.ID)
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	in := hook("mine")
	in.ID, in.Revision = theirs.ID, 1
	_, err = s.UpdateDestination(ctx, in)
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	require.Equal(t, errs.NotFound, errs.KindOf(s.DeleteDestination(ctx, testWorkspace, theirs.ID)))
}

func TestDestinationsThatCannotBe(t *testing.T) {
	t.Parallel()
	s, _, audit := newService()
	ctx := as(t, testWorkspace, scopeWrite)
	many := map[string]string{}
	for i := range maxHeaders + 1 {
		many[fmt.Sprintf("X-%d", i)] = "v"
	}
	for says, change := range map[string]func(*DestinationInput){
		"name must have 1":             func(in *DestinationInput) { in.Name = "   " },
		"name must have 1 to":          func(in *DestinationInput) { in.Name = strings.Repeat("x", maxName+1) },
		"filter must have at most":     func(in *DestinationInput) { in.Filter = strings.Repeat("x", maxFilter+1) },
		"filter is not valid CEL":      func(in *DestinationInput) { in.Filter = "event.name ==" },
		"webhook.url must be":          func(in *DestinationInput) { in.Webhook.URL = "ftp://x.example" },
		"address without user":         func(in *DestinationInput) { in.Webhook.URL = "https://user:pw@x.example" },
		"webhook.url must be an http":  func(in *DestinationInput) { in.Webhook.URL = "https://" },
		"http or https address":        func(in *DestinationInput) { in.Webhook.URL = "https://x.example/" + strings.Repeat("x", maxURL) },
		"webhook.batch_size must":      func(in *DestinationInput) { in.Webhook.BatchSize = 501 },
		"batch_size must be between 1": func(in *DestinationInput) { in.Webhook.BatchSize = -1 },
		"webhook.timeout_s must":       func(in *DestinationInput) { in.Webhook.TimeoutS = 31 },
		"webhook.headers must be":      func(in *DestinationInput) { in.Webhook.Headers = many },
		"that HTTP does not allow":     func(in *DestinationInput) { in.Webhook.Headers = map[string]string{"X Y": "v"} },
		"holds one that HTTP does":     func(in *DestinationInput) { in.Webhook.Headers = map[string]string{"X": "a\r\nHost: b"} },
		"must not set webhook-id":      func(in *DestinationInput) { in.Webhook.Headers = map[string]string{"Webhook-Id": "v"} },
		"must not set content-length":  func(in *DestinationInput) { in.Webhook.Headers = map[string]string{"content-length": "1"} },
		"names x-a twice":              func(in *DestinationInput) { in.Webhook.Headers = map[string]string{"x-a": "1", "X-A": "2"} },
		"must have values of at most": func(in *DestinationInput) {
			in.Webhook.Headers = map[string]string{"X": strings.Repeat("v", maxHeaderValue+1)}
		},
		"leads to a private address":    func(in *DestinationInput) { in.Webhook.URL = "http://169.254.169.254/meta" },
		"to a private address; the":     func(in *DestinationInput) { in.Webhook.URL = "http://LOCALHOST.:80" },
		"private address; the operator": func(in *DestinationInput) { in.Webhook.URL = "http://[::ffff:127.0.0.1]" },
	} {
		in := hook("a")
		change(&in)
		_, err := s.CreateDestination(ctx, in)
		require.Equal(t, errs.Invalid, errs.KindOf(err), says)
		require.Contains(t, errs.MessageOf(err), says)
	}
	require.Empty(t, audit.list)
	s.allowPrivate = true
	in := hook("a")
	in.Webhook.URL = "http://127.0.0.1:9000"
	_, err := s.CreateDestination(ctx, in)
	require.NoError(t, err)
	_, err = s.CreateDestination(ctx, hook(" a "))
	require.Equal(t, "destination_name_taken", errs.CodeOf(err))
	for i := range maxDestinations - 1 {
		_, err := s.CreateDestination(ctx, hook(fmt.Sprint("n", i)))
		require.NoError(t, err)
	}
	_, err = s.CreateDestination(ctx, hook("one more"))
	require.Equal(t, "too_many_destinations", errs.CodeOf(err))
}

func TestConfigNamesWhatCannotWork(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	for code, change := range map[string]func(*Config){
		"activation_concurrency": func(c *Config) { c.Concurrency = 0 },
		"activation_backoff":     func(c *Config) { c.BackoffMax = c.BackoffMin / 2 },
		"activation_max_age":     func(c *Config) { c.MaxAge = 0 },
		"activation_break":       func(c *Config) { c.BreakAfter = 0 },
		"activation_retry":       func(c *Config) { c.RetryDevices = 0 },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		require.Equal(t, code, errs.CodeOf(cfg.Validate()))
	}
}
