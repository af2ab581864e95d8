package collector

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mekong-cdp/mekong/services/internal/platform/clock"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

// benchEvent is one event of about 1 KiB, as a browser SDK sends it.
func benchEvent(id string) string {
	return `{"type":"track","messageId":"` + id + `","anonymousId":"0199a000-1111-7000-8000-` + id[:12] + `","userId":null,"event":"Product Viewed",
"properties":{"product_id":"sku-123","sku":"SKU-0000123","name":"Điện thoại thông minh 256GB","category":"Laptops","brand":"Mekong","price":18990000,
"currency":"VND","quantity":1,"position":3,"url":"https://shop.example/p/123?utm_source=google&utm_medium=cpc","image_url":"https://cdn.shop.example/i/123.webp"},
"context":{"library":{"name":"analytics.js","version":"next-1.84.3"},"page":{"path":"/p/123","referrer":"https://google.com/","search":"?utm_source=google&utm_medium=cpc",
"title":"Laptop gaming 15 inch | Shop","url":"https://shop.example/p/123?utm_source=google&utm_medium=cpc"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
"locale":"vi-VN","timezone":"Asia/Ho_Chi_Minh","campaign":{"source":"google","medium":"cpc"}},
"integrations":{},"timestamp":"2026-10-18T11:59:50.123Z","sentAt":"2026-10-18T11:59:55.456Z"}`
}

func benchBatch(n int) string {
	events := make([]string, n)
	for i := range events {
		events[i] = benchEvent(ids.New()[24:] + strconv.Itoa(i))
	}
	return `{"batch":[` + strings.Join(events, ",") + `],"sentAt":"2026-10-18T11:59:55.456Z"}`
}

func BenchmarkDecodeEvent(b *testing.B) {
	d := &decoder{limits: DefaultConfig().Limits, words: newVocabulary()}
	body := benchEvent("0123456789abc")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var req request
		if err := d.decode(wire{name: "v1/track", typ: TypeTrack}, body, &req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	d := &decoder{limits: DefaultConfig().Limits, words: newVocabulary()}
	body := benchBatch(100)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var req request
		if err := d.decode(wire{name: "v1/batch", shape: shapeBatch}, body, &req); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandle is everything but the network and the disk.
func BenchmarkHandle(b *testing.B) {
	for name, n := range map[string]int{"single": 1, "batch": 100} {
		b.Run(name, func(b *testing.B) {
			s := setup(b, func(c *Config) { c.Rates = Rates{} })
			s.door.service.log = discard{}
			s.door.service.clock = clock.Real()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				b.StopTimer()
				path, body := "/v1/track", benchEvent(fmt.Sprintf("%012d", i))
				if n > 1 {
					path, body = "/v1/batch", benchBatch(n)
				}
				i++
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, strings.NewReader(body))
				r.Header.Set("X-Write-Key", testKey)
				b.StartTimer()
				s.mux.ServeHTTP(nullWriter{http.Header{}}, r)
			}
		})
	}
}

type nullWriter struct{ header http.Header }

func (w nullWriter) Header() http.Header         { return w.header }
func (w nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nullWriter) WriteHeader(int)             {}

// benchLoads are the requests of the end-to-end benchmarks.
func benchLoads() []benchLoad {
	return []benchLoad{{"single", 1, "/v1/track"}, {"batch", 100, "/v1/batch"}, {"batch-results", 100, "/v1/batch?results=1"}}
}

type benchLoad struct {
	name   string
	events int
	path   string
}

func benchBroker(b *testing.B) kafka.Config {
	b.Helper()
	_, cfg := broker(b, kfake.DataDir(b.TempDir()), kfake.SyncWrites())
	publishConfig(b, cfg, append(configOf(true, 1), completed())...)
	return cfg
}

// BenchmarkDoor is the whole door on real files with a broker that syncs behind it: 64 connections, each waiting for
// its answer.
func BenchmarkDoor(b *testing.B) {
	for _, load := range benchLoads() {
		b.Run(load.name, func(b *testing.B) {
			r := start(b, DefaultConfig(), benchBroker(b), b.TempDir())
			require.Eventually(b, func() bool { return r.ready(b) }, eventually, tick)
			load.run(b, r.url)
			left, began := r.module.spool.Stats().Records, time.Now()
			b.ReportMetric(float64(left), "left-in-spool")
			require.Eventually(b, func() bool { return r.module.spool.Stats().Records == 0 }, eventually, tick)
			b.ReportMetric(float64(left)/time.Since(began).Seconds(), "drained/s")
		})
	}
}

// BenchmarkYardstick is the least that a collector can be: decode, one produce per event, answer after the
// acknowledgement.
func BenchmarkYardstick(b *testing.B) {
	for _, load := range benchLoads()[:2] {
		b.Run(load.name, func(b *testing.B) {
			cfg := benchBroker(b)
			client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
				kgo.DefaultProduceTopic(stream.CollectorEvents))
			require.NoError(b, err)
			defer client.Close()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { yardstick(w, r, client) }))
			defer server.Close()
			load.run(b, server.URL)
		})
	}
}

func yardstick(w http.ResponseWriter, r *http.Request, client *kgo.Client) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	var one struct {
		AnonymousID string            `json:"anonymousId"`
		Properties  map[string]any    `json:"properties"`
		Batch       []json.RawMessage `json:"batch"`
	}
	if err := json.Unmarshal(body, &one); err != nil {
		http.Error(w, "invalid", http.StatusBadRequest)
		return
	}
	events := [][]byte{body}
	if one.Batch != nil {
		events = events[:0]
		for _, raw := range one.Batch {
			if err := json.Unmarshal(raw, &one); err != nil {
				http.Error(w, "invalid", http.StatusBadRequest)
				return
			}
			events = append(events, raw)
		}
	}
	var wg sync.WaitGroup
	var failed atomic.Bool
	for _, e := range events {
		wg.Add(1)
		client.Produce(r.Context(), &kgo.Record{Key: []byte(one.AnonymousID), Value: e}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(true)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if failed.Load() {
		http.Error(w, "not stored", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, `{"success":true}`)
}

func (load benchLoad) run(b *testing.B, url string) {
	b.Helper()
	const clients = 64
	conns := make([]*benchClient, clients)
	for i := range conns {
		conns[i] = newBenchClient(b, strings.TrimPrefix(url, "http://"), load.path, load.events, i)
		defer conns[i].conn.Close()
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	took := make([][]time.Duration, clients)
	b.ResetTimer()
	began, cpu := time.Now(), cpuTime()
	for i, client := range conns {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				t := time.Now()
				if err := client.send(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	events := float64(b.N * load.events)
	b.ReportMetric(events/time.Since(began).Seconds(), "events/s")
	b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/events, "cpu-us/event")
	p50, p99 := percentiles(took)
	b.ReportMetric(float64(p50.Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
}

// cpuTime is what this process, client and broker included, has used: it says more than the wall clock on a busy machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchClient sends one prepared request again and again; only the ids change, in place.
type benchClient struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	ids     []int
	seq     int
	client  int
}

func newBenchClient(b *testing.B, addr, path string, n, client int) *benchClient {
	b.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", addr)
	require.NoError(b, err)
	const mark = "@@@@@@@@@@@@@@@@@@@@"
	body := strings.ReplaceAll(benchEvent("012345678901"), `"messageId":"012345678901"`, `"messageId":"`+mark+`"`)
	if n > 1 {
		body = `{"batch":[` + strings.Repeat(body+",", n-1) + body + `]}`
	}
	c := &benchClient{conn: conn, reader: bufio.NewReader(conn), client: client}
	c.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2tfdGVzdDo=\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	for at := 0; ; {
		i := strings.Index(string(c.request[at:]), mark)
		if i < 0 {
			return c
		}
		c.ids = append(c.ids, at+i)
		at += i + len(mark)
	}
}

func (c *benchClient) send() error {
	for _, at := range c.ids {
		c.seq++
		copy(c.request[at:at+20], fmt.Sprintf("%06d%014d", c.client, c.seq))
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	status, err := c.reader.ReadString('\n')
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			break
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.reader, body); err != nil {
		return err
	}
	if !strings.Contains(status, "200") || strings.Contains(string(body), "duplicate") {
		return fmt.Errorf("%s%s", status, body)
	}
	return nil
}

func percentiles(took [][]time.Duration) (p50, p99 time.Duration) {
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}
