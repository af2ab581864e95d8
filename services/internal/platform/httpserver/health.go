package httpserver

import (
	"net/http"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/runtime"
)

// ReadyInfo is what /readyz says about the process besides its checks.
type ReadyInfo struct {
	Version string `json:"version,omitempty"`
	// Addresses are where the process listens; left out where strangers could ask.
	Addresses []Address `json:"addresses,omitempty"`
}

// Address is one place where a process listens.
type Address struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

type readyBody struct {
	Ready  bool         `json:"ready"`
	Checks []readyCheck `json:"checks"`
	ReadyInfo
}

type readyCheck struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

// Healthz answers 200 as long as the process can answer at all.
func Healthz(w http.ResponseWriter, _ *http.Request) {
	WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// Readyz answers 200 when every check passes, else 503, with all checks in the body.
func Readyz(info ReadyInfo, checks func(r *http.Request) []runtime.Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, status := readyBody{Ready: true, Checks: []readyCheck{}, ReadyInfo: info}, http.StatusOK
		for _, check := range checks(r) {
			line := readyCheck{Name: check.Name, Ready: check.Err == nil}
			if check.Err != nil {
				line.Reason = errs.MessageOf(check.Err)
				body.Ready, status = false, http.StatusServiceUnavailable
			}
			body.Checks = append(body.Checks, line)
		}
		WriteJSON(w, status, body)
	}
}
