package clickhouse

import "context"

// Direct is the library without the door in front of it, with the same configuration: the yardstick of the benchmarks.
type Direct struct{ s *session }

// OpenDirect loads the library into this process.
func OpenDirect(ctx context.Context, cfg Config) (*Direct, error) {
	dir := layout(cfg.DataDir)
	if err := dir.create(); err != nil {
		return nil, err
	}
	lib, err := openLibrary(cfg.LibraryPath)
	if err != nil {
		return nil, err
	}
	config, err := dir.writeEngineConfig(childConfig{
		MaxMemoryBytes: cfg.MaxMemoryBytes, MaxQueryMemoryBytes: cfg.MaxQueryMemoryBytes, MaxThreads: cfg.threads(), MaxExecutionTime: cfg.MaxExecutionTime,
	})
	if err != nil {
		return nil, err
	}
	s, err := openSession(ctx, lib, []string{"--config-file=" + config, "--path=" + dir.store()}, nil)
	return &Direct{s}, err
}

// Query runs a statement and returns the length of its answer.
func (d *Direct) Query(sql, format string) (n int, err error) {
	d.s.do(func(c *connection) {
		var r result
		if r, err = c.query(sql, format, params{}); err == nil {
			n = len(r.bytes())
			r.free()
		}
	})
	return n, err
}

// Insert hands over one batch.
func (d *Direct) Insert(sql, format string, data []byte) (rows uint64, err error) {
	d.s.do(func(c *connection) {
		var stream insertStream
		if stream, err = c.insert(sql, format, params{}); err != nil {
			return
		}
		defer stream.free()
		if err = stream.append(data); err != nil {
			return
		}
		var p progress
		p, err = stream.done()
		rows = p.writtenRows
	})
	return rows, err
}

// Close ends the connection.
func (d *Direct) Close() { d.s.close() }
