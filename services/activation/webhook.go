package activation

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// verdict is what an attempt means for the messages of the request.
type verdict uint8

const (
	// delivered: the receiver has them.
	delivered verdict = iota
	// retry: try again later, from the first message on.
	retry
	// refused: the receiver will never take this request.
	refused
)

// attemptResult is the outcome of one request.
type attemptResult struct {
	verdict verdict
	// code is the HTTP status, 0 when there was none.
	code   int
	reason string
	// retryAfter is what the receiver asked for.
	retryAfter time.Duration
	latency    time.Duration
	// cut is set when we broke off the request because others could not wait.
	cut bool
}

// sender makes requests to webhooks.
type sender struct {
	client *http.Client
	now    func() time.Time
}

const (
	dialTimeout = 5 * time.Second
	// answerBytes of an answer are read so that the connection can be used again; the rest is cut.
	answerBytes   = 64 << 10
	headerBytes   = 64 << 10
	maxRetryAfter = time.Hour
)

func newSender(cfg Config, now func() time.Time) *sender {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !cfg.AllowPrivateAddresses {
		// Checked on the address that is really dialled, so that no name can be changed in between.
		dialer.Control = refusePrivate
	}
	return &sender{now: now, client: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 512, MaxIdleConnsPerHost: 64,
			IdleConnTimeout: time.Minute, TLSHandshakeTimeout: dialTimeout, ExpectContinueTimeout: time.Second,
			MaxResponseHeaderBytes: headerBytes, DisableCompression: true,
		},
		// A redirect could lead to an address that nobody checked, or to one that drops the body.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

const codePrivateAddress = "private_address"

// errPrivateAddress marks an address that the operator has not allowed.
func errPrivateAddress() error {
	return errs.New(errs.Invalid, codePrivateAddress,
		"The destination leads to a private address; the operator can allow these with MEKONG_ACTIVATION__ALLOW_PRIVATE_ADDRESSES=true")
}

func refusePrivate(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !public(ip) {
		return errPrivateAddress()
	}
	return nil
}

// privateHost reports whether the address names a private host literally; what names lead to is seen when they are used.
func privateHost(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	return !public(ip)
}

// public reports whether ip is an address of the open internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return false
	}
	for _, reserved := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		// These carry an IPv4 address inside, or belong to one site.
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10",
	} {
		if netip.MustParsePrefix(reserved).Contains(ip) {
			return false
		}
	}
	return true
}

// send makes one request with messages, in order. A body that cannot be made is refused without a request.
func (s *sender) send(ctx context.Context, d *Destination, messages []*message) attemptResult {
	payload, err := s.payload(d, messages)
	if err != nil {
		return attemptResult{verdict: refused, reason: errs.CodeOf(err)}
	}
	timeout := time.Duration(d.Webhook.TimeoutS) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Webhook.URL, bytes.NewReader(payload))
	if err != nil {
		return attemptResult{verdict: refused, reason: "bad_url"}
	}
	if err := s.header(req, d, requestID(d.ID, messages), payload); err != nil {
		return attemptResult{verdict: refused, reason: errs.CodeOf(err)}
	}
	begin := s.now()
	resp, err := s.client.Do(req)
	if err != nil {
		return attemptResult{verdict: retry, reason: networkReason(err), latency: s.now().Sub(begin)}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, answerBytes)
	_ = resp.Body.Close()
	result := judge(resp, s.now())
	result.latency = s.now().Sub(begin)
	return result
}

func (s *sender) payload(d *Destination, messages []*message) ([]byte, error) {
	if d.Webhook.BatchSize <= 1 {
		return messages[0].json()
	}
	var b bytes.Buffer
	for i, m := range messages {
		b.WriteByte("[,"[min(i, 1)])
		one, err := m.json()
		if err != nil {
			return nil, err
		}
		b.Write(one)
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}

// requestID is the same for the same messages, so that a receiver can drop a request that it has seen.
func requestID(destinationID string, messages []*message) string {
	if len(messages) == 1 {
		return messages[0].id(destinationID)
	}
	parts := make([]string, len(messages))
	for i, m := range messages {
		parts[i] = m.id(destinationID)
	}
	return ids.V5(messageSpace, parts...)
}

const (
	secretPrefix = "whsec_"
	userAgent    = "Mekong-Webhook/1"
)

func (s *sender) header(req *http.Request, d *Destination, id string, payload []byte) error {
	for name, value := range d.Webhook.Headers {
		req.Header.Set(name, value)
	}
	timestamp := strconv.FormatInt(s.now().Unix(), 10)
	signature, err := sign(d.SigningSecret, id, timestamp, payload)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", signature)
	return nil
}

// sign returns the signature of the Standard Webhooks specification: v1, HMAC-SHA-256 over id, timestamp and body.
func sign(secret, id, timestamp string, payload []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "bad_signing_secret", "The signing secret cannot be read.")
	}
	mac := hmac.New(sha256.New, key)
	for _, part := range [][]byte{[]byte(id + "." + timestamp + "."), payload} {
		mac.Write(part) // a hash never fails
	}
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

func networkReason(err error) string {
	var dns *net.DNSError
	switch {
	case errs.CodeOf(err) == codePrivateAddress:
		return codePrivateAddress
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection_refused"
	default:
		return "network"
	}
}

// judge tells what an answer means. Only answers about the message itself refuse it for good: a wrong address, a revoked
// key or a redirect is about the destination, and someone may still put it right.
func judge(resp *http.Response, now time.Time) attemptResult {
	code := resp.StatusCode
	result := attemptResult{verdict: retry, code: code, reason: "http_" + strconv.Itoa(code)}
	switch {
	case code >= 200 && code < 300:
		return attemptResult{verdict: delivered, code: code}
	case code == http.StatusBadRequest, code == http.StatusConflict, code == http.StatusRequestEntityTooLarge,
		code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		result.verdict = refused
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		result.retryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	return result
}

// retryAfter reads both forms of the header: seconds and a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
