package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	sinkBar     = 0.7
	identityBar = 25_000
	insertBar   = 0.8
	selectBar   = 2.0
)

// suite is the compiled tests of one package.
type suite struct{ binary, dir string }

// compile builds the tests of a package of the services module.
func (b *bench) compile(ctx context.Context, pkg string) (suite, error) {
	s := suite{binary: filepath.Join(b.dir, strings.ReplaceAll(pkg, "/", "-")+".test"), dir: filepath.Join(b.root, "services", filepath.FromSlash(pkg))}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", s.binary, ".")
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return suite{}, fmt.Errorf("go test -c %s: %w\n%s", pkg, err, out)
	}
	return s, nil
}

// run runs one benchmark and returns its metrics by unit.
func (s suite) run(ctx context.Context, name, times string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, s.binary, "-test.run", "^$", "-test.bench", "^"+name+"$", "-test.benchtime", times, "-test.timeout", "20m")
	cmd.Dir = s.dir
	cmd.Env = os.Environ() //nolint:forbidigo // the child gets this program's environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	metrics := parseBenchmark(out, name)
	if len(metrics) == 0 {
		return nil, fmt.Errorf("%s printed no result:\n%s", name, out)
	}
	return metrics, nil
}

// parseBenchmark reads the line "BenchmarkX-2  5  123 ns/op  45 rows/s …" of one benchmark. Log lines may stand between
// its name and its numbers.
func parseBenchmark(out []byte, name string) map[string]float64 {
	metrics := map[string]float64{}
	named := false
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) > 0 && (fields[0] == name || strings.HasPrefix(fields[0], name+"-")) {
			named, fields = true, fields[1:]
		}
		if !named || len(fields) < 3 {
			continue
		}
		if _, err := strconv.Atoi(fields[0]); err != nil {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = v
			}
		}
	}
	return metrics
}

// repeat runs one or more benchmarks in turn, round by round, and returns the values of unit by benchmark. When others
// are busy, rounds are repeated and the quietest ones count.
func (b *bench) repeat(ctx context.Context, s suite, unit, times string, benchmarks ...string) (values [][]float64, worst float64, err error) {
	type sample struct {
		values []float64
		noise  float64
	}
	var all []sample
	for quiet := 0; quiet < b.rounds && len(all) < b.rounds+b.extraRounds; {
		one := sample{}
		for _, name := range benchmarks {
			others := listen()
			metrics, err := s.run(ctx, name, times)
			if err != nil {
				return nil, 0, err
			}
			value, found := metrics[unit]
			if !found {
				return nil, 0, fmt.Errorf("%s reports no %s", name, unit)
			}
			one.values, one.noise = append(one.values, value), max(one.noise, others.share())
			b.logf("  %-24s %12.3f %s  load %.1f  others %s", name, value, unit, loadAverage(), percent(others.share()))
		}
		if all = append(all, one); one.noise <= quietShare {
			quiet++
		}
	}
	for _, one := range quietestBy(all, b.rounds, func(s sample) float64 { return s.noise }) {
		values, worst = append(values, one.values), max(worst, one.noise)
	}
	return values, worst, nil
}

// column returns the values of one benchmark over the rounds.
func column(values [][]float64, i int) []float64 {
	var list []float64
	for _, round := range values {
		list = append(list, round[i])
	}
	return list
}

func sinkBench(ctx context.Context, b *bench) error {
	s, err := b.compile(ctx, "warehouse")
	if err != nil {
		return err
	}
	values, worst, err := b.repeat(ctx, s, "rows/s", "10x", "BenchmarkSink", "BenchmarkPlainInsert")
	if err != nil {
		return err
	}
	var ratios []float64
	var rows [][]string
	for i, v := range values {
		ratios = append(ratios, v[0]/v[1])
		rows = append(rows, []string{fmt.Sprint(i + 1), whole(v[0]), whole(v[1]), fmt.Sprintf("%.2f", v[0]/v[1])})
	}
	b.report.table("Sink: batches of 10,000 events of 1 KiB", "round|sink rows/s|plain clickhouse-go rows/s|ratio", rows)
	r := median(ratios)
	b.report.add(line{
		what: "sink", bar: "≥ 0.7 ×", verdict: atLeast(r, sinkBar), noise: worst,
		value: fmt.Sprintf("%s rows/s, %.2f × a plain clickhouse-go batch (%s/s)", whole(median(column(values, 0))), r, whole(median(column(values, 1)))),
	})
	return nil
}

func identityBench(ctx context.Context, b *bench) error {
	s, err := b.compile(ctx, "identity")
	if err != nil {
		return err
	}
	values, worst, err := b.repeat(ctx, s, "events/s", "1x", "BenchmarkWarm")
	if err != nil {
		return err
	}
	rate := median(column(values, 0))
	b.report.add(line{
		what: "identity, warm", value: whole(rate) + " events/s", bar: "≥ 25,000/s", verdict: atLeast(rate, identityBar), noise: worst,
	})
	return nil
}

func clickhouseBench(ctx context.Context, b *bench) error {
	s, err := b.compile(ctx, "internal/embedded/clickhouse")
	if err != nil {
		return err
	}
	insert, worst, err := b.repeat(ctx, s, "speed-of-library", "15x", "BenchmarkInsert")
	if err != nil {
		return err
	}
	speed := median(column(insert, 0))
	b.report.add(line{
		what: "embedded ClickHouse, batch insert", value: fmt.Sprintf("%.2f × the library's speed", speed), bar: "≥ 0.8 ×",
		verdict: atLeast(speed, insertBar), noise: worst,
	})
	one, worst, err := b.repeat(ctx, s, "times-library", "2000x", "BenchmarkSelectOne")
	if err != nil {
		return err
	}
	times := median(column(one, 0))
	b.report.add(line{
		what: "embedded ClickHouse, SELECT 1 p50", value: fmt.Sprintf("%.2f × the library's time", times), bar: "≤ 2 ×",
		verdict: atMost(times, selectBar), noise: worst,
	})
	return nil
}
