package activation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func parkingOfDevices(at time.Time, devices ...int) (list []parkingMessage) {
	for _, n := range devices {
		list = append(list, parkingMessage{Device: deviceNo(n), NextAttemptAt: at})
	}
	return list
}

func TestQueueLosesNoWakeUp(t *testing.T) {
	t.Parallel()
	q := newQueue(t.Context(), takenPartition{})
	defer q.halt()
	require.True(t, q.block("d", parkingOfDevices(start.Add(time.Second), 1)))
	require.False(t, q.block("d", parkingOfDevices(start, 1)), "a blocked device keeps its time")
	require.Empty(t, q.claimDue(start))
	require.Equal(t, []string{"d"}, q.claimDue(start.Add(time.Second)))
	require.Empty(t, q.claimDue(start.Add(time.Hour)), "one retry at a time")

	// Parked during the retry.
	require.True(t, q.block("d", parkingOfDevices(start.Add(2*time.Second), 2)))
	q.free("d", []deviceHash{deviceNo(1)})
	q.release("d", time.Time{})
	require.Empty(t, q.claimDue(start.Add(time.Second)))
	require.Equal(t, []string{"d"}, q.claimDue(start.Add(2*time.Second)))

	// Hurried during the retry, which found it must wait.
	q.hurry("d")
	q.release("d", start.Add(time.Hour))
	require.Equal(t, []string{"d"}, q.claimDue(start.Add(2*time.Second)))
	require.True(t, q.hurried("d"))
	require.False(t, q.hurried("d"))
	q.free("d", []deviceHash{deviceNo(2)})
	q.release("d", start)
	require.Empty(t, q.claimDue(start.Add(time.Hour)), "nothing is parked")
	q.hurry("d")
	require.Empty(t, q.claimDue(start.Add(time.Hour)))
	require.Zero(t, q.size())
}

func TestQueueBeginsWithWhatWasParked(t *testing.T) {
	t.Parallel()
	q := newQueue(t.Context(), takenPartition{Blocked: map[string][]deviceHash{"d": {deviceNo(1)}, "e": {deviceNo(1), deviceNo(2)}}})
	require.Equal(t, 3, q.size())
	require.ElementsMatch(t, []string{"d", "e"}, q.claimDue(start))
	tgt := targetOf(1, DefaultConfig())
	items := itemsOf(t, tgt, eventOf(t, 1, 0), eventOf(t, 2, 0))
	require.Len(t, q.unblocked("d", items), 2)
	q.block("d", []parkingMessage{{Device: items[0].device}})
	require.Equal(t, items[1:], q.unblocked("d", items))
	require.True(t, q.start(func() {}))
	q.halt()
	require.False(t, q.start(func() { t.Error("the partition is gone") }))
	q.work.Wait()
	require.Error(t, q.ctx.Err())
}
