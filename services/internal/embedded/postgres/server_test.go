package postgres_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/mekong-cdp/mekong/services/internal/embedded/postgres"
	"github.com/mekong-cdp/mekong/services/internal/embedded/postgres/pgtest"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	platform "github.com/mekong-cdp/mekong/services/internal/platform/postgres"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	pgtest.RunConformance(t, start(t, testConfig(t)).URL())
}

func TestConformanceOfAnExternalServer(t *testing.T) {
	t.Parallel()
	address := os.Getenv("MEKONG_TEST_POSTGRES") //nolint:forbidigo // the switch of tests, not a setting of the program
	if address == "" {
		// Without one the embedded server stands in, reached by its address alone.
		address = start(t, testConfig(t)).URL()
	}
	pgtest.RunConformance(t, address)
}

func TestServerKeepsDataAndPasswordsAcrossRestarts(t *testing.T) {
	t.Parallel()
	cfg := quickConfig(t)
	first := start(t, cfg)
	execute(t, first.connect(), "CREATE TABLE kept AS SELECT 42 AS n")
	address := first.URL()
	require.NoError(t, first.stop())

	second := start(t, cfg)
	require.Equal(t, address, second.URL())
	require.Equal(t, 42, scalar[int](t, second.connect(), "SELECT n FROM kept"))

	facts, err := second.Facts(t.Context())
	require.NoError(t, err)
	require.True(t, facts.Checksums)
	require.True(t, strings.HasPrefix(facts.Version, "18."))
	require.Positive(t, facts.DatabaseBytes)
	require.Positive(t, facts.WALBytes)
	require.Equal(t, cfg.MaxConnections, facts.MaxConnections)

	for _, name := range []string{"password", "admin_password"} {
		info, err := os.Stat(filepath.Join(cfg.DataDir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	_, err = os.Stat(filepath.Join(cfg.DataDir, "run", "initial_password"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestPsqlCanConnectAndTheSocketAsksForThePassword(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	require.NoError(t, err, "install the PostgreSQL client")
	cfg := quickConfig(t)
	server := start(t, cfg)
	out, err := exec.CommandContext(t.Context(), psql, server.URL(), "-XAtc", "SELECT 6 * 7").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "42\n", string(out))

	_, port, err := net.SplitHostPort(cfg.Listen)
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), psql, "-w", "-h", filepath.Join(cfg.DataDir, "run"), "-p", port, "-U", "mekong_admin", "-XAtc", "SELECT 1", "postgres")
	out, err = command.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "password")
	info, err := os.Stat(filepath.Join(cfg.DataDir, "run"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestTheLogHoldsNoStatementAndNoValue(t *testing.T) {
	t.Parallel()
	server := start(t, quickConfig(t))
	conn := server.connect()
	execute(t, conn, "CREATE TABLE person (email text PRIMARY KEY)")
	for _, statement := range []string{
		"INSERT INTO person VALUES ('ann@example.com')",
		"INSERT INTO person VALUES ('ann@example.com')",
		"SELECT 'ann@example.com'::uuid",
		"DO $$ BEGIN RAISE WARNING 'ann@example.com'; RAISE EXCEPTION 'ann@example.com'; END $$",
		"SELECT * FROM \"ann@example.com\"",
	} {
		_, _ = conn.Exec(t.Context(), statement) // most fail
	}
	_, err := pgx.Connect(t.Context(), replaceUser(t, server.URL(), "mekong", "hunter2"))
	require.Error(t, err)
	require.NoError(t, server.stop())
	require.NotContains(t, server.logs.String(), "ann@example.com")
	require.NotContains(t, server.logs.String(), "hunter2")
	require.Contains(t, server.logs.String(), "database system is ready", "what the server says of itself is logged")
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	made := quickConfig(t)
	require.NoError(t, start(t, made).stop())

	for name, tc := range map[string]struct {
		spoil func(t *testing.T, cfg *postgres.Config)
		code  string
		kind  errs.Kind
		says  string
	}{
		"port taken": {func(t *testing.T, cfg *postgres.Config) {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", cfg.Listen)
			require.NoError(t, err)
			t.Cleanup(func() { listener.Close() })
		}, "postgres_port_taken", errs.Precondition, "MEKONG_EMBEDDED__POSTGRES__LISTEN"},
		"newer version": {func(t *testing.T, cfg *postgres.Config) {
			write(t, cfg, "pg/PG_VERSION", "19\n")
		}, "postgres_data_version", errs.Precondition, "19"},
		"control file damaged": {func(t *testing.T, cfg *postgres.Config) {
			flip(t, filepath.Join(cfg.DataDir, "pg/global/pg_control"), 100)
		}, "postgres_control_corrupted", errs.Precondition, "restore a backup"},
		"control file cut": {func(t *testing.T, cfg *postgres.Config) {
			require.NoError(t, os.Truncate(filepath.Join(cfg.DataDir, "pg/global/pg_control"), 10))
		}, "postgres_control_corrupted", errs.Precondition, "restore a backup"},
		"version file lost": {func(t *testing.T, cfg *postgres.Config) {
			require.NoError(t, os.Remove(filepath.Join(cfg.DataDir, "pg/PG_VERSION")))
		}, "postgres_data_damaged", errs.Precondition, "restore a backup"},
		"wrong password": {func(t *testing.T, cfg *postgres.Config) {
			write(t, cfg, "admin_password", "wrong")
		}, "postgres_login_refused", errs.Unauthenticated, "admin_password"},
		"programs missing": {func(t *testing.T, cfg *postgres.Config) {
			cfg.BinDir = t.TempDir()
		}, "embedded_postgres_missing", errs.Precondition, "make engines"},
		"not loopback": {func(_ *testing.T, cfg *postgres.Config) {
			cfg.Listen = "0.0.0.0:15432"
		}, "embedded_postgres_listen", errs.Invalid, "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := quickConfig(t)
			out, err := exec.CommandContext(t.Context(), "cp", "-a", made.DataDir+"/.", cfg.DataDir).CombinedOutput()
			require.NoError(t, err, "%s", out)
			tc.spoil(t, &cfg)
			_, err = tryStart(t, cfg)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.Equal(t, tc.kind, errs.KindOf(err))
			require.Contains(t, errs.MessageOf(err), tc.says)
		})
	}
}

func TestASecondServerOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	cfg := quickConfig(t)
	start(t, cfg)
	_, err := tryStart(t, cfg)
	require.Equal(t, "data_dir_in_use", errs.CodeOf(err))
}

func TestAHalfFinishedInitdbIsRepeated(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	require.NoError(t, os.MkdirAll(filepath.Join(cfg.DataDir, "pg.new", "base"), 0o700))
	write(t, &cfg, "pg.new/PG_VERSION", "18\n")
	write(t, &cfg, "admin_password", "of the first try")
	server := start(t, cfg)
	require.Equal(t, 1, scalar[int](t, server.connect(), "SELECT 1"))
	_, err := os.Stat(filepath.Join(cfg.DataDir, "pg.new"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestALostPasswordFileIsReplaced(t *testing.T) {
	t.Parallel()
	cfg := quickConfig(t)
	require.NoError(t, start(t, cfg).stop())
	for _, name := range []string{"password", "admin_password"} {
		require.NoError(t, os.Remove(filepath.Join(cfg.DataDir, name)))
	}
	server := start(t, cfg)
	require.Equal(t, 1, scalar[int](t, server.connect(), "SELECT 1"))
}

func TestLostLibraryLinksAreMadeAgain(t *testing.T) {
	t.Parallel()
	cfg := quickConfig(t)
	native := filepath.Join(reachableDir(t), "native")
	require.NoError(t, os.Chmod(filepath.Dir(native), 0o755))
	out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Dir(cfg.BinDir), native).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Remove(filepath.Join(native, "lib", "libpq.so.5")))
	require.NoError(t, os.Remove(filepath.Join(native, "lib", "libicuuc.so.60")))
	cfg.BinDir = filepath.Join(native, "bin")
	start(t, cfg)
}

func write(t *testing.T, cfg *postgres.Config, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, name), []byte(content), 0o600))
}

// flip changes one bit of a file in place.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	var b [1]byte
	_, err = file.ReadAt(b[:], offset)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = file.WriteAt(b[:], offset)
	require.NoError(t, err)
}

// A server may be stopped at any moment of its start: what it leaves must be a good beginning for the next.
func TestStoppingAtAnyMomentLeavesAGoodBeginning(t *testing.T) {
	// Not parallel: goroutines of other tests would look like leaks of this one.
	leaks := goleak.IgnoreCurrent()
	cfg := quickConfig(t)
	server, err := postgres.New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for i := range 12 {
		// From the middle of initdb to the middle of serving.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i*i*20)*time.Millisecond)
		require.NoError(t, server.Runner().Run(ctx, func() {}))
		cancel()
		require.Zero(t, processesIn(t, cfg), "round %d", i)
	}
	goleak.VerifyNone(t, leaks)
	require.Equal(t, 1, scalar[int](t, start(t, cfg).connect(), "SELECT 1"))
}

func TestOpenWaitsForAServerThatStarts(t *testing.T) {
	t.Parallel()
	cfg := quickConfig(t)
	require.NoError(t, start(t, cfg).stop())
	server, err := postgres.New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	pool := platform.DefaultConfig()
	pool.URL, pool.OpenTimeout = config.Secret(server.URL()), patience
	opened := make(chan error, 1)
	go func() {
		_, err := platform.Open(t.Context(), pool)
		opened <- err
	}()
	require.Error(t, server.Runner().Ready(t.Context()))
	start(t, cfg)
	// It got through, to a server on which nothing was migrated: that, waiting does not mend.
	require.Equal(t, "database_not_bootstrapped", errs.CodeOf(<-opened))
}
