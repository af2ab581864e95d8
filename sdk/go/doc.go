// Package mekong sends events to a Mekong server. It uses the standard library only.
//
//	client, err := mekong.New("https://events.example.com", writeKey)
//	results, err := client.Send(ctx, mekong.Event{Name: "Order Completed", UserID: "u-1", Properties: map[string]any{"order_id": "o-7"}})
//
// Send is synchronous: it returns when the server has answered for every event, or when ctx ends. There is no queue in the
// background, nothing is written to disk and nothing is sent after Send returned, so what Send did not confirm is the
// caller's to keep. A caller that wants batches collects events and hands them over together.
//
// Ids and times are assigned before the first attempt and stay the same on every further one, so that the server
// recognises a repetition: an event of which the answer got lost is stored once.
package mekong
