package postgres

import (
	"context"
	"time"
)

// Facts are what an operator wants to know of the server.
type Facts struct {
	Version          string
	StartedAt        time.Time
	DatabaseBytes    int64
	WALBytes         int64
	Connections      int
	MaxConnections   int
	Checksums        bool
	ChecksumFailures int64
}

// Facts asks the running server.
func (s *Server) Facts(ctx context.Context) (Facts, error) {
	conn, err := connectAdmin(ctx, s.cfg)
	if err != nil {
		return Facts{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	var f Facts
	err = conn.QueryRow(ctx, `
		SELECT current_setting('server_version'), pg_postmaster_start_time(), pg_database_size($1),
			(SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()),
			(SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend'),
			current_setting('max_connections')::int, current_setting('data_checksums') = 'on',
			(SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database)`, Database).
		Scan(&f.Version, &f.StartedAt, &f.DatabaseBytes, &f.WALBytes, &f.Connections, &f.MaxConnections, &f.Checksums, &f.ChecksumFailures)
	return f, err
}
