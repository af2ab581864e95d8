package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/app"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/kafka"
	"github.com/mekong-cdp/mekong/services/internal/stream"
)

type doctorCmd struct{}

func (doctorCmd) Help() string { return "Example: mekong doctor --data-dir /srv/mekong" }

func (doctorCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	wrong := 0
	for _, f := range app.Doctor(s.ctx, cfg) {
		mark := "ok   "
		if f.Err != nil {
			mark = "WRONG"
			wrong++
		}
		fmt.Fprintf(s.out, "%s  %-20s %s\n", mark, f.What, f.Detail)
		if f.Err != nil {
			fmt.Fprintf(s.out, "       → %s\n", errs.MessageOf(f.Err))
		}
	}
	if wrong > 0 {
		return errs.New(errs.Precondition, "doctor", fmt.Sprintf("%d of the checks failed", wrong))
	}
	return nil
}

type addressesCmd struct {
	ShowPasswords bool `help:"Print passwords in the addresses."`
}

func (addressesCmd) Help() string {
	return `Example: psql "$(mekong addresses --show-passwords | sed -n 's/^postgres *//p')"`
}

func (a addressesCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	list, err := app.Addresses(cfg, a.ShowPasswords)
	if err != nil {
		return err
	}
	for _, line := range list {
		fmt.Fprintf(s.out, "%-11s %s\n", line.What, line.Address)
	}
	return nil
}

type topicsCmd struct {
	List  topicsListCmd  `cmd:"" help:"Show the registry of topics."`
	Apply topicsApplyCmd `cmd:"" help:"Create what is missing in Kafka; partition counts of existing topics are checked."`
}

type topicsListCmd struct{}

func (topicsListCmd) Help() string { return "Example: mekong topics list" }

func (topicsListCmd) Run(s *shell) error {
	topics := stream.Topics()
	rows := make([][]string, 0, len(topics))
	for _, t := range topics {
		keep := t.Retention.String()
		if t.Compact {
			keep = "newest per key"
		}
		rows = append(rows, []string{t.Name, t.Owner, fmt.Sprint(t.Partitions), keep, t.Message})
	}
	return s.table("TOPIC OWNER PARTITIONS KEPT MESSAGE", rows)
}

type topicsApplyCmd struct{}

func (topicsApplyCmd) Help() string {
	return "Example: MEKONG_KAFKA__BROKERS=kafka-1:9092,kafka-2:9092 mekong topics apply"
}

func (topicsApplyCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	if len(cfg.Kafka.Brokers) == 0 {
		cfg.Kafka.Brokers = []string{cfg.Embedded.Kafka.Listen}
	}
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	client, err := kafka.NewClient(cfg.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := kafka.EnsureTopics(ctx, client, app.TopicSpecs()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%d topics are as they must be in %s\n", len(app.TopicSpecs()), strings.Join(cfg.Kafka.Brokers, ", "))
	return err
}

type backupCmd struct {
	Target string `arg:"" type:"path" help:"New directory for the backup."`
}

func (backupCmd) Help() string {
	return "Example: mekong backup /backups/2026-11-23 (stop the system first; senders repeat what they could not deliver)"
}

func (b backupCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	manifest, err := app.Backup(cfg, b.Target, version)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%d files, %.1f MB in %s\n", len(manifest.Files), float64(manifest.Bytes())/1e6, b.Target)
	return err
}

type restoreCmd struct {
	Source string `arg:"" type:"existingdir" help:"Directory of the backup."`
}

func (restoreCmd) Help() string {
	return "Example: mekong restore /backups/2026-11-23 --data-dir /srv/mekong"
}

func (r restoreCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	manifest, err := app.Restore(cfg, r.Source)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "restored %d files of %s into %s; start with `mekong up --data-dir %s`\n",
		len(manifest.Files), manifest.CreatedAt.Format("2006-01-02 15:04 MST"), cfg.DataDir, cfg.DataDir)
	return err
}
