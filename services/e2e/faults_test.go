package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFaultsOfInput starts a system with settings that cannot work: each is refused at once, in one sentence that names
// what to change.
func TestFaultsOfInput(t *testing.T) {
	config := func(text string) string {
		path := filepath.Join(t.TempDir(), "mekong.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	up := func(more ...string) []string { return append([]string{"up"}, more...) }
	for name, tc := range map[string]struct {
		args []string
		env  string
		says []string
	}{
		"unknown setting in the environment": {up(), "MEKONG_HTTP__LISTN=:1", []string{"MEKONG_HTTP__LISTN", "mekong config print"}},
		"unknown setting in the file":        {up("--config", config("http: {listn: ':1'}")), "", []string{"http.listn", "mekong config print"}},
		"file that is no YAML":               {up("--config", config("http: [")), "", []string{"is not valid YAML"}},
		"file that is missing":               {up("--config", "/nowhere/mekong.yaml"), "", []string{"/nowhere/mekong.yaml"}},
		"value of the wrong type": {
			up(), "MEKONG_EMBEDDED__KAFKA__SEGMENT_BYTES=many", []string{"embedded.kafka.segment_bytes", "MEKONG_EMBEDDED__KAFKA__SEGMENT_BYTES"},
		},
		"value that makes no sense":      {up(), "MEKONG_COLLECTOR__LIMITS__EVENT_BYTES=-1", []string{"limits.event_bytes"}},
		"address without a port":         {up(), "MEKONG_HTTP__LISTEN=localhost", []string{"MEKONG_HTTP__LISTEN", "host:port"}},
		"TLS with half of its files":     {up(), "MEKONG_GRPC__CERT_FILE=cert.pem", []string{"grpc.cert_file and grpc.key_file"}},
		"demo where strangers can reach": {up("--demo"), "MEKONG_HTTP__LISTEN=0.0.0.0:0", []string{"--demo", "loopback"}},
		"unknown target":                 {[]string{"run", "--target=nonsense"}, "", []string{`"nonsense"`, "collector, identity, warehouse"}},
		"module that is no target":       {[]string{"run", "--target=doors"}, "", []string{`"doors"`}},
		"cluster without a secret":       {[]string{"run", "--target=collector"}, "", []string{"MEKONG_GRPC__SERVICE_TOKEN"}},
		"unknown flag":                   {up("--bogus"), "", []string{"--bogus", "--help"}},
		"unknown command":                {[]string{"nonsense"}, "", []string{"nonsense", "--help"}},
		"missing engines":                {up(), "MEKONG_ENGINES_DIR=" + t.TempDir(), []string{"make engines"}},
		"data directory that is a file":  {up("--data-dir", config("")), "", []string{"mekong.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			args, env := tc.args, append(freePorts(t), tc.env)
			if !slices.Contains(args, "--data-dir") {
				args = append(args, "--data-dir", filepath.Join(t.TempDir(), "data"))
			}
			begin := time.Now()
			answer := command(t, env, args...)
			answer.refused(t, tc.says...)
			require.Less(t, time.Since(begin), 20*time.Second, "refused before the engines were started")
		})
	}
}

// TestFaultsOfAnInstallation does to one installation, again and again, what goes wrong in practice. After each refusal
// the cause is removed, and at the end every acknowledged event must be there once.
func TestFaultsOfAnInstallation(t *testing.T) {
	f := &faults{system: single(t)}
	f.ws = newWorkspace(t, api{f.api, f.token}, "faults")
	f.waitKey(t, f.ws)
	f.acknowledge(t, "first", 20)

	t.Run("a port that is taken", func(t *testing.T) { portsTaken(t, f) })
	t.Run("a second instance", func(t *testing.T) { secondInstance(t, f) })
	t.Run("wrong passwords and missing peers", func(t *testing.T) { wrongAddresses(t, f) })
	t.Run("absurd times", func(t *testing.T) { absurdTimes(t, f) })
	t.Run("killed engines", func(t *testing.T) { killedEngines(t, f) })
	f.requireStored(t, f.ws, f.acked)

	f.acknowledge(t, "last", 200)
	f.processes[0].kill(t)
	t.Run("data of a newer version, damaged marks, missing libraries", func(t *testing.T) { foreignData(t, f) })
	t.Run("torn tails and a flipped bit", func(t *testing.T) { tornTails(t, f) })
}

// faults is an installation and what its door has acknowledged.
type faults struct {
	*system
	ws    workspace
	acked []string
}

func (f *faults) acknowledge(tb testing.TB, prefix string, n int) {
	tb.Helper()
	f.acked = append(f.acked, f.track(tb, f.ws, prefix, n)...)
}

func portsTaken(t *testing.T, f *faults) {
	for _, name := range portSettings() {
		taken := setting(t, f.env(), name)
		args := []string{"up", "--data-dir", filepath.Join(t.TempDir(), "data")}
		// The engines take their own ports; one alone says no sooner than the whole system.
		for _, engine := range []string{"kafka", "postgres", "clickhouse"} {
			if strings.Contains(strings.ToLower(name), "__"+engine+"__") {
				args = append([]string{"run", "--target", engine}, args[1:]...)
			}
		}
		command(t, append(freePorts(t), name+"="+taken), args...).refused(t, taken, name)
	}
}

func secondInstance(t *testing.T, f *faults) {
	command(t, freePorts(t), "up", "--data-dir", f.data()).refused(t, "Another process uses "+f.data(), "--data-dir")
	f.processes[0].waitReady(t, f.api)
}

func wrongAddresses(t *testing.T, f *faults) {
	wrong := func(address string) string {
		scheme, rest, _ := strings.Cut(address, "://mekong:")
		_, host, _ := strings.Cut(rest, "@")
		return scheme + "://mekong:wrong-password@" + host
	}
	for name, tc := range map[string]struct {
		target string
		env    []string
		says   []string
	}{
		"Postgres":           {"admin", []string{"MEKONG_POSTGRES__URL=" + wrong(f.postgres)}, []string{"postgres.url"}},
		"ClickHouse":         {"warehouse", []string{"MEKONG_POSTGRES__URL=" + f.postgres, "MEKONG_CLICKHOUSE__URL=" + wrong(f.clickhouse)}, []string{"clickhouse.url"}},
		"no Postgres at all": {"admin", nil, []string{"postgres.url"}},
		"no peer":            {"collector", nil, []string{"MEKONG_PEERS__"}},
	} {
		t.Run(name, func(t *testing.T) {
			env := append(freePorts(t), "MEKONG_KAFKA__BROKERS="+f.kafka, "MEKONG_GRPC__SERVICE_TOKEN="+serviceToken)
			answer := command(t, append(env, tc.env...), "run", "--target", tc.target, "--data-dir", t.TempDir())
			answer.refused(t, tc.says...)
			require.NotContains(t, answer.out+answer.err, "wrong-password")
		})
	}
}

// absurdTimes stands for a jump of the clock: what a sender with a wrong clock says is clamped to the time of receipt. The
// clock of the system under test itself is left alone, since the binary is linked statically and reads it past every
// library that could be put in between, and the clock of the machine belongs to other tests too.
func absurdTimes(t *testing.T, f *faults) {
	now := time.Now().UTC()
	for id, ts := range map[string]string{
		"past": "0001-01-01T00:00:00Z", "epoch": "1970-01-01T00:00:00Z", "future": now.AddDate(40, 0, 0).Format(time.RFC3339),
		"far-future": "9999-12-31T23:59:59Z",
	} {
		body := fmt.Sprintf(`{"messageId":%q,"event":"E","anonymousId":"d","timestamp":%q}`, id, ts)
		code, _, raw := send(t.Context(), httpClient(), f.door, "/v1/track", f.ws.key, []byte(body))
		require.Equal(t, 200, code, "%s: %s", id, raw)
		f.acked = append(f.acked, id)
	}
	code, _, raw := send(t.Context(), httpClient(), f.door, "/v1/track", f.ws.key,
		[]byte(`{"messageId":"no-time","event":"E","anonymousId":"d","timestamp":"yesterday"}`))
	require.Equal(t, 400, code, "what is no time at all is refused: %s", raw)
	f.requireStored(t, f.ws, f.acked)
	rows, err := query(t.Context(), f.clickhouse, fmt.Sprintf(`SELECT event_id, abs(dateDiff('second', ts, received_at)), abs(dateDiff('second', received_at, now()))
		FROM fact_events WHERE workspace_id = '%s' AND event_id IN ('past', 'epoch', 'future', 'far-future')`, f.ws.id))
	require.NoError(t, err)
	require.Len(t, rows, 4)
	for _, row := range rows {
		require.Equal(t, "0", row[1], "%s happened when it was received", row[0])
		require.Less(t, len(row[2]), 4, "%s was received now", row[0])
	}
}

// killedEngines kills every child, one kind after the other; the process itself goes on and needs no help.
func killedEngines(t *testing.T, f *faults) {
	p := f.processes[0]
	pid := p.pid()
	for _, kind := range []string{"engine-clickhouse", "native/bin/postgres -D"} {
		killed := 0
		for child, line := range children(pid) {
			if strings.Contains(line, kind) {
				require.NoError(t, syscall.Kill(child, syscall.SIGKILL))
				killed++
			}
		}
		require.Equal(t, 1, killed, kind)
		f.acknowledge(t, "while-"+kind, 10)
		f.requireStored(t, f.ws, f.acked)
		p.waitReady(t, f.api)
	}
	require.Equal(t, pid, p.pid())
}

// foreignData replaces one file at a time.
func foreignData(t *testing.T, f *faults) {
	for name, tc := range map[string]struct {
		file, content string
		says          []string
	}{
		"data directory, newer":   {"VERSION", "99\n", []string{f.data(), "newer version of Mekong", "start that version"}},
		"data directory, damaged": {"VERSION", "\x00\x17?", []string{"VERSION", "restore it from a backup"}},
		"Kafka, newer":            {"kafka/VERSION", "v0.0.0-20990101000000-0123456789ab\n", []string{"newer", "kafka"}},
		"Postgres, newer":         {"postgres/pg/PG_VERSION", "99\n", []string{"PostgreSQL", "99", "start the version of Mekong"}},
		"ClickHouse, newer":       {"clickhouse/VERSION", "99.1.1\n", []string{"99.1.1", "newer engine"}},
		"dedupe window, newer":    {"identity/dedupe/VERSION", "99\n", []string{"newer version of Mekong", "identity/dedupe"}},
		"spool, newer":            {"collector/spool/VERSION", "99\n", []string{"collector/spool", "another version of Mekong"}},
		"spool cursor, damaged":   {"collector/spool/CURSOR", strings.Repeat("x", 28), []string{"collector/spool/CURSOR", "is damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := one(t, filepath.Join(f.data(), tc.file))
			replaced(t, path, []byte(tc.content), func() {
				command(t, f.env(), "up", "--data-dir", f.data()).refused(t, tc.says...)
			})
		})
	}
	t.Run("no engines", func(t *testing.T) {
		command(t, append(f.env(), "MEKONG_ENGINES_DIR="+t.TempDir()), "up", "--data-dir", f.data()).refused(t, "make engines")
	})
}

// one returns the file that a pattern stands for.
func one(tb testing.TB, pattern string) string {
	tb.Helper()
	found, err := filepath.Glob(pattern)
	require.NoError(tb, err)
	require.NotEmpty(tb, found, pattern)
	return found[0]
}

// replaced gives a file another content while do runs.
func replaced(tb testing.TB, path string, content []byte, do func()) {
	tb.Helper()
	before, err := os.ReadFile(path)
	require.NoError(tb, err)
	info, err := os.Stat(path)
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(path, content, info.Mode()))
	defer func() { require.NoError(tb, os.WriteFile(path, before, info.Mode())) }()
	do()
}

// tornTails lets Kafka run as a process of its own over the same data, so that it can be frozen: what the door has
// acknowledged meanwhile is in the spool alone. Then the power fails.
func tornTails(t *testing.T, f *faults) {
	for _, segment := range glob(t, filepath.Join(f.data(), "kafka", "partitions", "*", "*.dat")) {
		tear(t, segment)
	}
	at := setting(t, f.env(), "MEKONG_EMBEDDED__KAFKA__LISTEN")
	broker := f.service(t, "broker", "kafka", filepath.Join(f.dataDir, "broker"),
		"MEKONG_EMBEDDED__KAFKA__LISTEN="+at, "MEKONG_EMBEDDED__KAFKA__DATA_DIR="+filepath.Join(f.data(), "kafka"))
	broker.start(t)
	broker.waitReady(t, f.ready[broker])
	p := f.processes[0]
	p.env = append(slices.Clone(p.env), "MEKONG_KAFKA__BROKERS="+at)
	p.start(t)
	p.waitReady(t, f.api)
	f.requireStored(t, f.ws, f.acked)

	broker.signal(syscall.SIGSTOP)
	f.acknowledge(t, "frozen", 60)
	p.kill(t)
	broker.signal(syscall.SIGCONT)

	segments := glob(t, filepath.Join(f.data(), "collector", "spool", "*.seg"))
	newest := segments[len(segments)-1]
	data, err := os.ReadFile(newest)
	require.NoError(t, err)
	flipped := slices.Clone(data)
	flipped[len(flipped)-len(flipped)/4] ^= 0x10 // among what is not forwarded, before the end
	replaced(t, newest, flipped, func() {
		command(t, p.env, "up", "--data-dir", f.data()).refused(t, newest, "damaged")
	})
	tear(t, newest)
	p.start(t)
	p.waitReady(t, f.api)
	f.acknowledge(t, "after", 10)
	f.requireStored(t, f.ws, f.acked)
}

func glob(tb testing.TB, pattern string) []string {
	tb.Helper()
	found, err := filepath.Glob(pattern)
	require.NoError(tb, err)
	require.NotEmpty(tb, found, pattern)
	slices.Sort(found)
	return found
}

// tear appends what a write leaves that a power cut has interrupted: bytes that nobody has acknowledged.
func tear(tb testing.TB, path string) {
	tb.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(tb, err)
	_, err = file.WriteString("\x00\x00\x00\x31 a torn write")
	require.NoError(tb, err)
	require.NoError(tb, file.Close())
}
