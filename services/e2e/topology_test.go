package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// system is one installation under test.
type system struct {
	// door takes events, api serves REST, grpc is the address of the public gRPC services.
	door, api, grpc string
	token           string
	kafka           string
	clickhouse      string // address with password
	postgres        string // address with password
	dataDir         string

	processes []*process
	// ready lists what answers /readyz, by process.
	ready map[*process]string
	// victims are the ways to kill something, by name.
	victims []victim
}

// victim is something that can be killed at a random moment; what has no supervisor of its own is started again.
type victim struct {
	name string
	kill func(tb testing.TB)
}

const (
	readyLimit   = 2 * time.Minute
	serviceToken = "e2e-service-token"
	// every process of the tests may send to receivers on this machine.
	allowPrivate = "MEKONG_ACTIVATION__ALLOW_PRIVATE_ADDRESSES=true"
)

// topologies are the two shapes that must behave alike.
func topologies() map[string]func(testing.TB) *system {
	return map[string]func(testing.TB) *system{"one process": single, "a process per service": cluster}
}

func (s *system) process(tb testing.TB, name, path string, args, env []string, ready string) *process {
	tb.Helper()
	logs := filepath.Join(s.dataDir, "logs")
	require.NoError(tb, os.MkdirAll(logs, 0o755))
	p := &process{name: name, path: path, args: args, env: env, log: filepath.Join(logs, name+".log")}
	s.processes = append(s.processes, p)
	s.ready[p] = ready
	return p
}

func newSystem(tb testing.TB) *system {
	tb.Helper()
	dir := tb.TempDir()
	// An embedded Postgres that runs as another user must be able to enter.
	require.NoError(tb, os.Chmod(dir, 0o755))
	s := &system{dataDir: dir, ready: map[*process]string{}}
	tb.Cleanup(func() {
		for _, p := range slices.Backward(s.processes) {
			if p.running() {
				p.stop(tb)
			}
		}
		if tb.Failed() {
			for _, p := range s.processes {
				tb.Logf("--- %s (killed %d times) ends with:\n%s", p.name, p.kills, tail(p.log, 25))
			}
		}
	})
	return s
}

// single is `mekong up` with everything embedded.
func single(tb testing.TB) *system {
	tb.Helper()
	s := newSystem(tb)
	httpAt, env := s.singleEnv(tb)
	p := s.process(tb, "mekong", binary(tb), []string{"up", "--data-dir", filepath.Join(s.dataDir, "data")}, env, "http://"+httpAt)
	p.start(tb)
	p.waitReady(tb, s.door)
	s.token = ownerToken(tb, p)
	s.learnAddresses(tb, env)
	s.victims = []victim{
		{"mekong", func(tb testing.TB) { p.kill(tb); p.start(tb) }},
		{"clickhouse child", func(tb testing.TB) { killChild(tb, p.pid(), "engine-clickhouse") }},
		{"postgres", func(tb testing.TB) { killChild(tb, p.pid(), "native/bin/postgres -D", "postgres:") }},
	}
	return s
}

func (s *system) singleEnv(tb testing.TB) (httpAt string, env []string) {
	tb.Helper()
	httpAt, grpcAt, kafkaAt := freePort(tb), freePort(tb), freePort(tb)
	s.door, s.api, s.grpc, s.kafka = "http://"+httpAt, "http://"+httpAt, grpcAt, kafkaAt
	return httpAt, []string{
		"MEKONG_HTTP__LISTEN=" + httpAt, "MEKONG_GRPC__LISTEN=" + grpcAt, "MEKONG_METRICS__LISTEN=" + freePort(tb),
		"MEKONG_EMBEDDED__KAFKA__LISTEN=" + kafkaAt, "MEKONG_EMBEDDED__POSTGRES__LISTEN=" + freePort(tb),
		"MEKONG_EMBEDDED__CLICKHOUSE__LISTEN=" + freePort(tb), allowPrivate,
	}
}

// learnAddresses asks the command that users ask.
func (s *system) learnAddresses(tb testing.TB, env []string) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), binary(tb), "addresses", "--show-passwords", "--data-dir", filepath.Join(s.dataDir, "data"))
	cmd.Env = append(os.Environ(), env...) //nolint:forbidigo // the child gets the test's environment
	out, err := cmd.CombinedOutput()
	require.NoError(tb, err, "%s", out)
	for line := range strings.Lines(string(out)) {
		name, address, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "clickhouse":
			s.clickhouse = strings.TrimSpace(address)
		case "postgres":
			s.postgres = strings.TrimSpace(address)
		}
	}
	require.NotEmpty(tb, s.clickhouse)
	require.NotEmpty(tb, s.postgres)
}

var tokenPattern = regexp.MustCompile(`mk_[A-Za-z0-9]+`) //nolint:gochecknoglobals // a constant in all but name

func ownerToken(tb testing.TB, p *process) string {
	tb.Helper()
	token := tokenPattern.FindString(p.findLine(tb, "API token of the owner", readyLimit))
	require.NotEmpty(tb, token)
	return token
}

// cluster is one process per service, two of identity among them, over a real Apache Kafka.
func cluster(tb testing.TB) *system {
	tb.Helper()
	return clusterOf(tb, 1)
}

// clusterOf is a cluster with so many instances of warehouse and activation.
func clusterOf(tb testing.TB, instances int) *system {
	tb.Helper()
	s := newSystem(tb)
	kafka := s.realKafka(tb)

	pgAt, chAt := freePort(tb), freePort(tb)
	engines := s.service(tb, "engines", "postgres,clickhouse", filepath.Join(s.dataDir, "data"),
		"MEKONG_EMBEDDED__POSTGRES__LISTEN="+pgAt, "MEKONG_EMBEDDED__CLICKHOUSE__LISTEN="+chAt)
	engines.start(tb)
	engines.waitReady(tb, s.ready[engines])
	s.learnAddresses(tb, engines.env)

	adminGRPC, warehouseGRPC, activationGRPC := freePort(tb), freePort(tb), freePort(tb)
	identity := []string{freePort(tb), freePort(tb)}
	common := []string{
		"MEKONG_KAFKA__BROKERS=" + s.kafka, "MEKONG_POSTGRES__URL=" + s.postgres, "MEKONG_CLICKHOUSE__URL=" + s.clickhouse,
		"MEKONG_GRPC__SERVICE_TOKEN=" + serviceToken, "MEKONG_PEERS__ADMIN=" + adminGRPC, "MEKONG_PEERS__WAREHOUSE=" + warehouseGRPC,
		"MEKONG_PEERS__ACTIVATION=" + activationGRPC, "MEKONG_PEERS__IDENTITY=" + strings.Join(identity, ","), allowPrivate,
	}
	start := func(name, target, grpcAt string) *process {
		env := append(slices.Clone(common), "MEKONG_GRPC__LISTEN="+grpcAt)
		p := s.service(tb, name, target, filepath.Join(s.dataDir, name), env...)
		p.start(tb)
		return p
	}
	admin := start("admin", "admin,api", adminGRPC)
	s.api, s.grpc = s.ready[admin], adminGRPC
	admin.waitReady(tb, s.api)
	s.token = ownerToken(tb, admin)
	services := []*process{
		admin,
		start("warehouse", "warehouse", warehouseGRPC),
		start("activation", "activation", activationGRPC),
		start("identity-1", "identity", identity[0]),
		start("identity-2", "identity", identity[1]),
	}
	for n := 2; n <= instances; n++ {
		services = append(services,
			start(fmt.Sprintf("warehouse-%d", n), "warehouse", freePort(tb)),
			start(fmt.Sprintf("activation-%d", n), "activation", freePort(tb)))
	}
	services = append(services, start("collector", "collector", freePort(tb)))
	s.door = s.ready[services[len(services)-1]]
	s.waitReady(tb)

	s.victims = []victim{
		{"clickhouse child", func(tb testing.TB) { killChild(tb, engines.pid(), "engine-clickhouse") }},
		{"postgres", func(tb testing.TB) { killChild(tb, engines.pid(), "native/bin/postgres -D", "postgres:") }},
		{"engines", func(tb testing.TB) { engines.kill(tb); engines.start(tb) }},
		{"kafka", func(tb testing.TB) { kafka.kill(tb); kafka.start(tb) }},
	}
	for _, p := range services {
		s.victims = append(s.victims, victim{p.name, func(tb testing.TB) { p.kill(tb); p.start(tb) }})
	}
	return s
}

// service is `mekong run --target=…` with ports of its own.
func (s *system) service(tb testing.TB, name, target, dataDir string, env ...string) *process {
	tb.Helper()
	httpAt := freePort(tb)
	all := []string{"MEKONG_HTTP__LISTEN=" + httpAt, "MEKONG_METRICS__LISTEN=" + freePort(tb)}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "MEKONG_GRPC__LISTEN=") }) {
		all = append(all, "MEKONG_GRPC__LISTEN="+freePort(tb))
	}
	return s.process(tb, name, binary(tb), []string{"run", "--target", target, "--data-dir", dataDir}, append(all, env...), "http://"+httpAt)
}

// realKafka starts an Apache Kafka of this test's own from its jars.
func (s *system) realKafka(tb testing.TB) *process {
	tb.Helper()
	script := filepath.Join(repoRoot(tb), "tools", "kafka", "run.sh")
	broker := freePortPair(tb)
	_, port, err := net.SplitHostPort(broker)
	require.NoError(tb, err)
	s.kafka = broker
	p := s.process(tb, "kafka", script, []string{"--port", port, "--data", filepath.Join(s.dataDir, "kafka")}, nil, "")
	p.start(tb)
	require.Eventually(tb, func() bool {
		if !p.running() {
			return false
		}
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(tb.Context(), "tcp", broker)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, readyLimit, 200*time.Millisecond, "Apache Kafka does not start; run `make engines-test`; log:\n%s", lazy(func() string { return tail(p.log, 20) }))
	return p
}

// freePortPair returns an address whose next port is free too: Kafka's controller takes it.
func freePortPair(tb testing.TB) string {
	tb.Helper()
	portOf := func(address string) int {
		_, port, err := net.SplitHostPort(address)
		require.NoError(tb, err)
		n, err := strconv.Atoi(port)
		require.NoError(tb, err)
		return n
	}
	first := freePort(tb)
	for range 100 {
		second := freePort(tb)
		if portOf(second) == portOf(first)+1 {
			return first
		}
		first = second
	}
	require.Fail(tb, "no two free ports in a row")
	return ""
}

// killChild kills one descendant of pid whose command line contains all parts but none of another process's.
func killChild(tb testing.TB, pid int, part string, not ...string) {
	tb.Helper()
	for child, line := range children(pid) {
		if strings.Contains(line, part) && !slices.ContainsFunc(not, func(n string) bool { return strings.HasPrefix(line, n) }) {
			tb.Logf("killing pid %d", child)
			_ = syscall.Kill(child, syscall.SIGKILL)
			return
		}
	}
	// It may be starting again after an earlier kill: then there is nothing to kill now.
	tb.Logf("no process like %q is alive now", part)
}

// waitReady waits until every process is ready.
func (s *system) waitReady(tb testing.TB) {
	tb.Helper()
	for _, p := range s.processes {
		if url := s.ready[p]; url != "" {
			p.waitReady(tb, url)
		}
	}
}

// waitKey waits until the door knows the workspace's write key.
func (s *system) waitKey(tb testing.TB, ws workspace) {
	tb.Helper()
	var code int
	var raw string
	require.Eventually(tb, func() bool {
		body := []byte(`{"events":[]}`)
		code, _, raw = send(tb.Context(), httpClient(), s.door, "/v1/batch", ws.key, body)
		return code != http.StatusUnauthorized && code != 0
	}, 20*time.Second, 50*time.Millisecond, "the key is still refused: %d %s", code, raw)
}

// killAround kills n victims, each at a random moment, every victim at least once when n allows.
func (s *system) killAround(tb testing.TB, n int, between time.Duration) {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	tb.Logf("kill seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible by its seed, no secret
	var order []int
	for len(order) < n {
		order = append(order, random.Perm(len(s.victims))...)
	}
	begin := time.Now()
	for i, which := range order[:n] {
		pause := time.Duration(float64(between) * (0.5 + random.Float64()))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-tb.Context().Done():
			return
		}
		v := s.victims[which]
		tb.Logf("%6.1f s: kill %d of %d: %s", time.Since(begin).Seconds(), i+1, n, v.name)
		v.kill(tb)
	}
}
