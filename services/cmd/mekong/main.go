// Command mekong is the whole system: `mekong up` runs everything on one machine, `mekong run` one or more services of a
// cluster, and the other commands look after an installation.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	_ "time/tzdata" // workspaces have time zones, machines may lack the database

	"github.com/alecthomas/kong"

	"github.com/mekong-cdp/mekong/services/internal/app"
	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse"
	"github.com/mekong-cdp/mekong/services/internal/platform/config"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// version is set when the binary is built.
var version = "dev" //nolint:gochecknoglobals // the linker writes it

// cli is every command. The help of each command ends with an example.
type cli struct {
	Config  string `help:"YAML file with settings; the environment (MEKONG_A__B) overrides it." type:"path" placeholder:"FILE"`
	DataDir string `help:"Where this process keeps its state (setting data_dir)." type:"path" placeholder:"DIR"`

	Up          upCmd          `cmd:"" help:"Run everything on this machine, engines included."`
	Run         runCmd         `cmd:"" help:"Run one or more services of a cluster."`
	Doctor      doctorCmd      `cmd:"" help:"Check engines, ports, disk, versions and migrations, and say what to do."`
	SQL         sqlCmd         `cmd:"" name:"sql" help:"Run SQL in ClickHouse."`
	Addresses   addressesCmd   `cmd:"" help:"Show where everything listens, ready to paste into clients."`
	Topics      topicsCmd      `cmd:"" help:"Show the Kafka topics, or create what is missing."`
	Workspace   workspaceCmd   `cmd:"" help:"Create and list workspaces."`
	Source      sourceCmd      `cmd:"" help:"Create and list sources, and their write keys."`
	Destination destinationCmd `cmd:"" help:"Create and list destinations."`
	Token       tokenCmd       `cmd:"" help:"Create, list and revoke API tokens."`
	Backup      backupCmd      `cmd:"" help:"Write a backup of this machine's system into a folder."`
	Restore     restoreCmd     `cmd:"" help:"Make a data directory from a backup."`
	Settings    configCmd      `cmd:"" name:"config" help:"Show the settings."`
	Version     versionCmd     `cmd:"" help:"Show the version."`

	Engine engineCmd `cmd:"" name:"engine-clickhouse" hidden:"" passthrough:""`
}

// shell is what a command works with.
type shell struct {
	ctx     context.Context
	out     io.Writer
	errOut  io.Writer
	environ []string
	cli     *cli
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Environ())
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code: 0 when it did what was asked, 1 when it could not, 2 when the
// command line or the settings are wrong.
func execute(ctx context.Context, args []string, out, errOut io.Writer, environ []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("mekong"), kong.Description("Mekong, a self-hosted customer data platform."),
		kong.Writers(out, errOut), kong.Vars{"targets": strings.Join(app.Targets(), ", ")}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(errOut, "mekong:", err)
		return 2
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errOut, "mekong: %s; `mekong --help` lists the commands, `mekong <command> --help` their flags\n", err)
		return 2
	}
	if err := parsed.Run(&shell{ctx: ctx, out: out, errOut: errOut, environ: environ, cli: &c}); err != nil {
		fmt.Fprintln(errOut, "mekong:", err)
		if errs.KindOf(err) == errs.Invalid {
			return 2
		}
		return 1
	}
	return 0
}

func (s *shell) sources() config.Sources {
	return config.Sources{File: s.cli.Config, Environ: s.environ}
}

// load returns the configuration: defaults, file, environment, then the flags of the command line.
func (s *shell) load() (app.Config, error) {
	cfg, err := app.Load(s.sources())
	if err != nil {
		return app.Config{}, err
	}
	if s.cli.DataDir != "" {
		cfg.DataDir = s.cli.DataDir
	}
	return cfg, errors.Join(cfg.Complete(enginesDir()), cfg.Validate())
}

// enginesDir is where `make engines` puts the engines: beside bin/.
func enginesDir() string {
	executable, err := os.Executable()
	if err != nil {
		return ".engines"
	}
	return filepath.Join(filepath.Dir(filepath.Dir(executable)), ".engines")
}

// engineCmd is this binary as the child process that holds the embedded ClickHouse.
type engineCmd struct {
	Args []string `arg:"" optional:""`
}

func (e engineCmd) Run(s *shell) error { return clickhouse.ChildMain(s.ctx, e.Args) }

type versionCmd struct{}

func (versionCmd) Help() string { return "Example: mekong version" }

func (versionCmd) Run(s *shell) error {
	_, err := fmt.Fprintln(s.out, "mekong", version)
	return err
}
