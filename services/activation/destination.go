package activation

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Destination is one place that events are sent to.
type Destination struct {
	WorkspaceID string
	ID          string
	Name        string
	Enabled     bool
	// Filter is CEL over `event`; empty sends all.
	Filter  string
	Webhook Webhook
	// SigningSecret signs the requests: "whsec_" and 32 bytes in base64.
	SigningSecret string
	// Revision grows by one with each change.
	Revision             int64
	CreatedAt, UpdatedAt time.Time
}

// Webhook is an HTTP receiver.
type Webhook struct {
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers,omitempty"`
	BatchSize int               `json:"batch_size"`
	TimeoutS  int               `json:"timeout_s"`
}

const (
	maxName         = 100
	maxFilter       = 4_000
	maxURL          = 2_000
	maxHeaders      = 20
	maxHeaderValue  = 4_000
	maxBatchSize    = 500
	maxTimeoutS     = 30
	defaultTimeoutS = 15
)

// normalise fills in defaults.
func (d *Destination) normalise() {
	d.Name, d.Filter = strings.TrimSpace(d.Name), strings.TrimSpace(d.Filter)
	if d.Webhook.BatchSize == 0 {
		d.Webhook.BatchSize = 1
	}
	if d.Webhook.TimeoutS == 0 {
		d.Webhook.TimeoutS = defaultTimeoutS
	}
}

// Validate returns Invalid naming every field that cannot be used.
func (d Destination) Validate() error {
	var wrong []string
	check := func(ok bool, what string) {
		if !ok && !slices.Contains(wrong, what) {
			wrong = append(wrong, what)
		}
	}
	check(d.Name != "" && len([]rune(d.Name)) <= maxName, fmt.Sprintf("name must have 1 to %d characters", maxName))
	check(len(d.Filter) <= maxFilter, fmt.Sprintf("filter must have at most %d bytes", maxFilter))
	if d.Filter != "" && len(d.Filter) <= maxFilter {
		if _, err := compileFilter(d.Filter); err != nil {
			wrong = append(wrong, "filter "+err.Error())
		}
	}
	check(validURL(d.Webhook.URL), "webhook.url must be an http or https address without user and password")
	check(d.Webhook.BatchSize >= 1 && d.Webhook.BatchSize <= maxBatchSize, fmt.Sprintf("webhook.batch_size must be between 1 and %d", maxBatchSize))
	check(d.Webhook.TimeoutS >= 1 && d.Webhook.TimeoutS <= maxTimeoutS, fmt.Sprintf("webhook.timeout_s must be between 1 and %d", maxTimeoutS))
	check(len(d.Webhook.Headers) <= maxHeaders, fmt.Sprintf("webhook.headers must be at most %d", maxHeaders))
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(d.Webhook.Headers)) {
		value, canonical := d.Webhook.Headers[name], http.CanonicalHeaderKey(name)
		check(!seen[canonical], "webhook.headers names "+strings.ToLower(name)+" twice")
		seen[canonical] = true
		check(len(value) <= maxHeaderValue, fmt.Sprintf("webhook.headers must have values of at most %d bytes", maxHeaderValue))
		check(httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value), "webhook.headers holds one that HTTP does not allow")
		check(!reservedHeader(name), "webhook.headers must not set "+strings.ToLower(name))
	}
	if len(wrong) == 0 {
		return nil
	}
	return errs.New(errs.Invalid, "destination_invalid", "The destination cannot be used: "+strings.Join(wrong, "; ")+".")
}

func validURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && len(raw) <= maxURL && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil
}

// reservedHeader are headers that the sender itself sets or that would break the request.
func reservedHeader(name string) bool {
	switch strings.ToLower(name) {
	case "host", "content-length", "content-type", "transfer-encoding", "connection", "webhook-id", "webhook-timestamp", "webhook-signature":
		return true
	default:
		return false
	}
}

func errDestinationNotFound() error {
	return errs.New(errs.NotFound, "destination_not_found", "There is no such destination in this workspace.")
}

func errNameTaken() error {
	return errs.New(errs.Conflict, "destination_name_taken", "Another destination of this workspace has that name.")
}

func errRevision() error {
	return errs.New(errs.Conflict, "destination_changed", "The destination was changed meanwhile; read it again and repeat the change.")
}
