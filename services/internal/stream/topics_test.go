package stream_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/stream"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^mekong\.[a-z]+\.[a-z-]+\.v\d+(\.dlq|\.retry)?$`)
	byName := map[string]stream.Topic{}
	for _, topic := range stream.Topics() {
		require.Regexp(t, name, topic.Name)
		require.NotContains(t, byName, topic.Name)
		require.Positive(t, topic.Partitions)
		require.Positive(t, topic.Retention)
		require.NotEmpty(t, topic.Owner)
		require.NotEmpty(t, topic.Message)
		byName[topic.Name] = topic
	}
	// The dedupe window and the watermarks of every consumer rest on this equality.
	require.Equal(t, byName[stream.CollectorEvents].Partitions, byName[stream.ResolvedEvents].Partitions)
	for n, topic := range byName {
		if len(topic.Groups) > 0 {
			require.Contains(t, byName, n+".dlq")
		}
		if strings.HasSuffix(n, ".dlq") {
			require.Contains(t, byName, strings.TrimSuffix(n, ".dlq"))
		}
	}
}
