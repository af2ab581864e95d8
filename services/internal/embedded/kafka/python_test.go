package kafka_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// An unmodified confluent-kafka (librdkafka) creates a topic, produces and consumes with a group.
func TestPythonClientWorks(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the Python client is left out by -short")
	}
	python, err := filepath.Abs(filepath.Join("..", "..", "..", "..", ".tools", "py", "bin", "python"))
	require.NoError(t, err)
	_, err = os.Stat(python)
	require.NoError(t, err, "the Python of the tests is missing: run `make tools`")
	b := open(t, config(t.TempDir()))
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "roundtrip.py"), b.Addr()).CombinedOutput() //nolint:gosec // our own script
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "300 records, committed 300")
}
