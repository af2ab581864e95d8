package mekong

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxEvents and maxBytes bound one request; a server takes 2,500 events and 4 MiB unless its operator says otherwise.
	maxEvents = 500
	maxBytes  = 3 << 20
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 4 << 20

	attemptTimeout = 30 * time.Second
	defaultMinWait = 200 * time.Millisecond
	defaultMaxWait = 30 * time.Second
)

// Client sends events. It is safe for use by many goroutines at once, and needs no closing.
type Client struct {
	url      string
	writeKey string
	http     *http.Client
	minWait  time.Duration
	maxWait  time.Duration
	now      func() time.Time
	wait     func(ctx context.Context, d time.Duration) error
	invalid  error
}

// Option changes how a client works.
type Option func(*Client)

// WithHTTPClient uses client for all requests, instead of one with a timeout of 30 s for each attempt.
func WithHTTPClient(client *http.Client) Option { return func(c *Client) { c.http = client } }

// WithBackoff bounds the wait between attempts, 200 ms and 30 s by default. A longer Retry-After of the server counts.
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *Client) { c.minWait, c.maxWait = shortest, longest }
}

// New returns a client of the server at endpoint ("https://events.example.com") that shows writeKey, the key of a source.
// What is wrong with either is told by Send, as *ConfigError.
func New(endpoint, writeKey string, opts ...Option) *Client {
	c := &Client{
		writeKey: writeKey, http: &http.Client{Timeout: attemptTimeout}, minWait: defaultMinWait, maxWait: defaultMaxWait,
		now: time.Now, wait: sleep,
	}
	for _, opt := range opts {
		opt(c)
	}
	u, err := url.Parse(strings.TrimRight(endpoint, "/"))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		c.invalid = &ConfigError{Reason: "the endpoint must be an address such as https://events.example.com"}
	case writeKey == "":
		c.invalid = &ConfigError{Reason: "the write key is empty; use one of the source's keys"}
	case c.http == nil:
		c.invalid = &ConfigError{Reason: "the HTTP client is nil"}
	case c.minWait <= 0 || c.maxWait < c.minWait:
		c.invalid = &ConfigError{Reason: "the shortest wait must be positive, and the longest not below it"}
	default:
		c.url = u.JoinPath("v1", "batch").String() + "?results=1"
	}
	return c
}

// Send sends events and returns one result for each, in the same order. Network errors and the answers 429 and 5xx are
// tried again with growing, random waits, never earlier than the server's Retry-After, until ctx ends: give ctx a deadline.
//
// With an error the results are still complete: events that are not known to be stored have the status Retry. Errors:
// *ConfigError and *EncodeError (nothing was sent), *APIError (the server refuses the request itself, as with an unknown
// key), *IncompleteError (ctx ended, or would end before the next attempt).
func (c *Client) Send(ctx context.Context, events ...Event) ([]Result, error) {
	if c.invalid != nil {
		return nil, c.invalid
	}
	encoded, results, err := c.encode(events)
	if err != nil {
		return nil, err
	}
	for from := 0; from < len(encoded); {
		to := chunkEnd(encoded, from)
		if err := c.deliver(ctx, encoded[from:to], results[from:to]); err != nil {
			return results, err
		}
		from = to
	}
	return results, nil
}

// encode fixes ids and times, once for all attempts. Every result begins as Retry.
func (c *Client) encode(events []Event) ([]json.RawMessage, []Result, error) {
	now := c.now()
	encoded, results := make([]json.RawMessage, len(events)), make([]Result, len(events))
	for i, event := range events {
		w := event.complete(now)
		text, err := json.Marshal(w)
		if err != nil {
			return nil, nil, &EncodeError{Index: i, Err: err}
		}
		encoded[i], results[i] = text, Result{MessageID: w.MessageID, Status: Retry}
	}
	return encoded, results, nil
}

// chunkEnd returns where the request that begins with event from ends.
func chunkEnd(encoded []json.RawMessage, from int) int {
	size, to := 0, from
	for to < len(encoded) && to-from < maxEvents {
		size += len(encoded[to]) + 1
		if size > maxBytes && to > from {
			break
		}
		to++
	}
	return to
}

// deliver repeats one request until every event has a final answer. results is filled in place.
func (c *Client) deliver(ctx context.Context, encoded []json.RawMessage, results []Result) error {
	open := make([]int, len(encoded))
	for i := range open {
		open[i] = i
	}
	for attempt := 0; len(open) > 0; attempt++ {
		answers, failure := c.post(ctx, pick(encoded, open))
		if failure != nil && !failure.again {
			return failure.err
		}
		if failure == nil {
			if open = settle(answers, open, results); len(open) == 0 {
				return nil
			}
			failure = &failedAttempt{err: errAskedAgain, again: true}
		}
		pause := c.pause(attempt, failure.after)
		if deadline, ok := ctx.Deadline(); ok && c.now().Add(pause).After(deadline) {
			return &IncompleteError{Cause: context.DeadlineExceeded, Last: failure.err}
		}
		if err := c.wait(ctx, pause); err != nil {
			return &IncompleteError{Cause: err, Last: failure.err}
		}
	}
	return nil
}

func pick(encoded []json.RawMessage, open []int) []json.RawMessage {
	batch := make([]json.RawMessage, len(open))
	for i, at := range open {
		batch[i] = encoded[at]
	}
	return batch
}

// settle writes the answers of the events in open into results and returns those that the server wants again.
func settle(answers []Result, open []int, results []Result) []int {
	var again []int
	for i, at := range open {
		results[at].Status, results[at].Reason = answers[i].Status, answers[i].Reason
		if answers[i].Status == Retry {
			again = append(again, at)
		}
	}
	return again
}

// body is one request: sentAt lets the server correct a clock that is wrong.
type body struct {
	Batch  []json.RawMessage `json:"batch"`
	SentAt time.Time         `json:"sentAt"`
}

// post makes one attempt and returns one answer per event of batch.
func (c *Client) post(ctx context.Context, batch []json.RawMessage) ([]Result, *failedAttempt) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if err := json.NewEncoder(zip).Encode(body{Batch: batch, SentAt: c.now().UTC()}); err != nil {
		return nil, &failedAttempt{err: fmt.Errorf("mekong: encode: %w", err)}
	}
	if err := zip.Close(); err != nil {
		return nil, &failedAttempt{err: fmt.Errorf("mekong: compress: %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, &packed)
	if err != nil {
		return nil, &failedAttempt{err: fmt.Errorf("mekong: request: %w", err)}
	}
	req.SetBasicAuth(c.writeKey, "")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", "mekong-go")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &failedAttempt{err: err, again: true}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &failedAttempt{err: err, again: true}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, text, c.now())
	}
	return readResults(text, len(batch))
}

func readResults(text []byte, want int) ([]Result, *failedAttempt) {
	var answer struct {
		Results []Result `json:"results"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || len(answer.Results) != want {
		return nil, &failedAttempt{err: &APIError{
			Status: http.StatusOK, Code: "unexpected_answer", Message: "The answer has no result for each event; is the endpoint a Mekong server?",
		}}
	}
	return answer.Results, nil
}
