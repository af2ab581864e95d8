package mekong_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	mekong "github.com/mekong-cdp/mekong/sdk/go"
)

func ExampleClient_Send() {
	server := demoServer()
	defer server.Close()

	client := mekong.New(server.URL, "demo_write_key")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	results, err := client.Send(ctx,
		mekong.Event{
			MessageID: "order-1042", Name: "Order Completed", UserID: "u-7",
			Properties: map[string]any{"order_id": "1042", "revenue": 18990000, "currency": "VND"},
		},
		mekong.Event{MessageID: "u-7-v3", Type: mekong.Identify, UserID: "u-7", Traits: map[string]any{"city": "Huế"}},
	)
	var incomplete *mekong.IncompleteError
	if errors.As(err, &incomplete) {
		fmt.Println("keep the events and send them later:", err)
	}
	for _, r := range results {
		fmt.Println(r.MessageID, r.Status)
	}
	// Output:
	// order-1042 ok
	// u-7-v3 ok
}

// demoServer stands for a Mekong server.
func demoServer() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"results":[{"event_id":"order-1042","status":"ok"},{"event_id":"u-7-v3","status":"ok"}]}`)
	}))
}
