package app

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// askReady returns nil when the process behind url is ready, else what is not.
func askReady(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return errs.Wrap(err, errs.Unavailable, "door_away", "It does not answer; look at the output of the process")
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var body struct {
		Checks []struct {
			Name, Reason string
			Ready        bool
		} `json:"checks"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return errs.Wrap(err, errs.Unavailable, "not_ready", "It is not ready, and does not say why")
	}
	var reasons []string
	for _, check := range body.Checks {
		if !check.Ready {
			reasons = append(reasons, check.Name+": "+check.Reason)
		}
	}
	return errs.New(errs.Unavailable, "not_ready", "It is not ready: "+strings.Join(reasons, "; "))
}
