package clickhouse_test

import (
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
)

// TestClickhouseConnect runs the Python client that data scientists use, as it comes from its package.
func TestClickhouseConnect(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the engine")
	}
	t.Parallel()
	e := chtest.Start(t, chtest.Config(t))
	u, err := url.Parse(e.URL())
	require.NoError(t, err)
	password, _ := u.User.Password()
	python := filepath.Join(chtest.Root(t), ".tools", "py", "bin", "python")
	out, err := exec.CommandContext(t.Context(), python, "testdata/connect.py", "http://"+u.Host, u.User.Username(), password).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "ok\n", string(out))
}
