package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mekong-cdp/mekong/services/internal/app"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

type sqlCmd struct {
	Query  string `arg:"" help:"The statement."`
	Format string `help:"ClickHouse output format." default:"PrettyCompactMonoBlock"`
}

func (sqlCmd) Help() string {
	return `Example: mekong sql "SELECT event_name, count() FROM fact_events GROUP BY event_name"`
}

func (q sqlCmd) Run(s *shell) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	dsn, err := app.ClickHouseDSN(cfg)
	if err != nil {
		return err
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return errs.New(errs.Invalid, "clickhouse_url", "clickhouse.url is not an address")
	}
	scheme := "http"
	if u.Scheme == "https" || u.Query().Get("secure") == "true" {
		scheme = "https"
	}
	target := url.URL{Scheme: scheme, Host: u.Host, Path: "/"}
	values := url.Values{"default_format": {q.Format}}
	if database := strings.Trim(u.Path, "/"); database != "" {
		values.Set("database", database)
	}
	target.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, target.String(), strings.NewReader(q.Query))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if password, ok := u.User.Password(); ok {
		req.SetBasicAuth(u.User.Username(), password)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return errs.Wrap(err, errs.Unavailable, "clickhouse_away",
			"ClickHouse does not answer; is the system running (`mekong up`), or is clickhouse.url wrong")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errs.New(errs.Invalid, "sql_refused", strings.TrimSpace(string(text)))
	}
	_, err = io.Copy(s.out, resp.Body)
	return err
}
