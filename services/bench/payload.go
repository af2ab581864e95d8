package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	eventBytes = 1024
	// devices is how many anonymous ids the load comes from.
	devices = 20_000

	plainName  = "Product Viewed"
	sampleName = "Bench Sampling" // as long as plainName: one replaces the other in place

	idWidth     = 36
	deviceWidth = 10
	timeLayout  = "2006-01-02T15:04:05.000Z"

	idMark      = "00000000-0000-7000-8000-000000000000"
	deviceMark  = "dev-000000"
	paddingMark = "~"
	timeMark    = "2000-01-01T00:00:00.000Z"
)

// slot is where one event's changing parts are in a request.
type slot struct{ id, device, time, name, padding int }

// template is a whole HTTP request with the same length every time; only the slots change.
type template struct {
	request []byte
	body    int // where the body begins
	slots   []slot
	padding int // length of the part that is random
}

// sampleEvent is one event as a shop's page sends it, size bytes long. What real events hold in different words and ids
// is one random text here, so that they compress no better than those do.
func sampleEvent(size int) string {
	const format = `{"type":"track","messageId":"%s","anonymousId":"%s","userId":null,"event":"%s","timestamp":"%s",` +
		`"properties":{"product_id":"sku-48213","name":"ThinkBook 14 Gen 8","category":"Laptops","brand":"Lenovo","variant":"16 GB / 512 GB","currency":"VND","price":18990000,` +
		`"quantity":1,"position":3,"coupon":"AUTUMN10","list_id":"search","query":"gaming laptop","in_stock":true,"tags":["sale","new"],"padding":"%s"},` +
		`"context":{"locale":"vi-VN","timezone":"Asia/Ho_Chi_Minh","userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",` +
		`"page":{"url":"https://shop.example/p/48213?utm_source=google&utm_medium=cpc&utm_campaign=autumn","path":"/p/48213","title":"ThinkBook 14 Gen 8","referrer":"https://google.com/"},` +
		`"screen":{"width":1920,"height":1080,"density":1},"library":{"name":"bench","version":"1.0.0"}}}`
	bare := len(fmt.Sprintf(format, idMark, deviceMark, plainName, timeMark, ""))
	return fmt.Sprintf(format, idMark, deviceMark, plainName, timeMark, strings.Repeat(paddingMark, max(0, size-bare)))
}

// newTemplate returns a request with one event of 1 KiB (POST /v1/track) or several (POST /v1/batch).
func newTemplate(host, key string, events int) *template {
	return newSizedTemplate(host, key, events, eventBytes)
}

func newSizedTemplate(host, key string, events, size int) *template {
	path, body := "/v1/track", sampleEvent(size)
	if events > 1 {
		path, body = "/v1/batch", `{"batch":[`+strings.TrimSuffix(strings.Repeat(body+",", events), ",")+`]}`
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/json\r\nAuthorization: Basic " +
		base64.StdEncoding.EncodeToString([]byte(key+":")) + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	t := &template{request: []byte(head + body), body: len(head), padding: strings.Count(sampleEvent(size), paddingMark)}
	for at := len(head); ; {
		next := func(mark string) int {
			i := bytes.Index(t.request[at:], []byte(mark))
			if i < 0 {
				return -1
			}
			at += i
			return at
		}
		s := slot{id: next(idMark)}
		if s.id < 0 {
			return t
		}
		s.device, s.name, s.time, s.padding = next(deviceMark), next(plainName), next(timeMark), next(paddingMark)
		t.slots = append(t.slots, s)
	}
}

// request is one connection's copy of a template.
type request struct {
	template
	source *source
}

func (t *template) copy(src *source) *request {
	r := &request{template: *t, source: src}
	r.request = bytes.Clone(t.request)
	return r
}

// source hands out event numbers, so that no id occurs twice in a run of this program, and random text.
type source struct {
	run  uint64
	next atomic.Uint64
	text []byte
}

func newSource() *source {
	random := make([]byte, 3<<19)
	_, _ = rand.Read(random) // never fails
	return &source{run: uint64(time.Now().UnixNano()), text: []byte(base64.StdEncoding.EncodeToString(random))}
}

// random returns n characters that differ from event to event.
func (s *source) random(event uint64, n int) []byte {
	at := event * 1_000_003 % uint64(len(s.text)-n)
	return s.text[at : at+uint64(n)]
}

// fill gives every event an id, a device and a text that follow from its number, and the time now.
func (r *request) fill(first uint64, now time.Time) {
	var buffer [2 * len(timeLayout)]byte
	stamp := now.UTC().AppendFormat(buffer[:0], timeLayout)
	for i, s := range r.slots {
		n := first + uint64(i)
		putID(r.request[s.id:s.id+idWidth], r.source.run, n)
		putDigits(r.request[s.device+4:s.device+deviceWidth], n*7919%devices)
		copy(r.request[s.time:], stamp)
		copy(r.request[s.padding:], r.source.random(n, r.padding))
	}
}

// name sets the name of the first event.
func (r *request) name(name string) { copy(r.request[r.slots[0].name:], name) }

// eventID is the id that fill gives the event with number n.
func eventID(run, n uint64) string {
	var id [idWidth]byte
	putID(id[:], run, n)
	return string(id[:])
}

func putID(dst []byte, run, n uint64) {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], run)
	binary.BigEndian.PutUint64(raw[8:], n)
	raw[6] = raw[6]&0x0f | 0x70
	raw[8] = raw[8]&0x3f | 0x80
	at := 0
	for _, part := range [][]byte{raw[0:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16]} {
		if at > 0 {
			dst[at] = '-'
			at++
		}
		at += hex.Encode(dst[at:], part)
	}
}

func putDigits(dst []byte, n uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = '0' + byte(n%10)
		n /= 10
	}
}
