package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM) //nolint:forbidigo // the root of all contexts
	err := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, args []string, out, errOut io.Writer) error {
	if len(args) > 0 && slices.Contains([]string{serveBroker, serveMinimal, serveBare}, args[0]) {
		return serve(ctx, args[0], args[1:])
	}
	b := &bench{out: out, errOut: errOut, source: newSource()}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	root := flags.String("root", ".", "root of the repository")
	only := flags.String("only", "", "run only these, separated by commas: "+strings.Join(names(), ", "))
	results := flags.String("results", "", "folder that gets <date>.md; empty writes none")
	flags.StringVar(&b.profiles, "profiles", "", "folder that gets CPU profiles of the system under load; the numbers suffer")
	flags.IntVar(&b.rounds, "rounds", 3, "rounds that count")
	flags.IntVar(&b.extraRounds, "extra-rounds", 3, "rounds to repeat at most when other programs are busy")
	flags.DurationVar(&b.length, "length", 5*time.Second, "length of one turn of one side")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 || b.extraRounds < 0 || b.length <= 0 {
		return fmt.Errorf("--rounds and --length must be positive, --extra-rounds not negative")
	}
	var err error
	if b.root, err = filepath.Abs(*root); err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	return b.run(ctx, chosen, *results)
}

// part is one benchmark of the list.
type part struct {
	name string
	run  func(ctx context.Context, b *bench) error
}

func parts() []part {
	return []part{
		{"door", doorBench},
		{"street", streetBench},
		{"memory", memoryBench},
		{"sink", sinkBench},
		{"identity", identityBench},
		{"clickhouse", clickhouseBench},
	}
}

func names() []string {
	var list []string
	for _, p := range parts() {
		list = append(list, p.name)
	}
	return list
}

func choose(only string) ([]part, error) {
	if only == "" {
		return parts(), nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no benchmark is named %q: there are %s", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, parts()[i])
	}
	return chosen, nil
}
