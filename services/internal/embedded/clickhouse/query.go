package clickhouse

import (
	"context"
	"errors"
)

// errClientGone is a client that closed its connection; nothing can be answered.
var errClientGone = errors.New("the client closed the connection")

// query runs a statement without data and writes its answer. Reads in a self-concatenating format are streamed; all
// others are made whole by the engine first, bounded by its memory limit.
func (s *server) query(ctx context.Context, c *connection, req *request, resp *response, tag string) error {
	format := firstOf(req.stmt.format, req.format)
	resp.setFormat(format)
	sql := tag + req.stmt.sql
	if !streamable.has(format) || !req.stmt.streams() {
		r, err := c.query(sql, format, req.params)
		if err != nil {
			return err
		}
		defer r.free()
		if _, err := resp.Write(r.bytes()); err != nil {
			return errors.Join(errClientGone, err)
		}
		return s.finish(ctx, resp, r.progress())
	}
	stream, err := c.stream(sql, format, req.params)
	if err != nil {
		return err
	}
	defer stream.free()
	var total progress
	for {
		chunk, err := c.fetch(stream)
		if err != nil {
			return err
		}
		data := chunk.bytes()
		total.add(chunk.progress())
		if len(data) == 0 {
			chunk.free()
			return s.finish(ctx, resp, total)
		}
		_, err = resp.Write(data)
		chunk.free()
		if err != nil {
			c.cancel(stream)
			return errors.Join(errClientGone, err)
		}
	}
}

// finish ends an answer, unless the statement was told to end: then the answer may lack rows, though the engine saw no error.
func (s *server) finish(ctx context.Context, resp *response, p progress) error {
	if ctx.Err() != nil {
		return s.cause(ctx, ctx.Err())
	}
	return resp.finish(p)
}

// streams reports that the statement is one of those that the engine can stream.
func (s statement) streams() bool {
	return s.keyword(0, "SELECT", "WITH") || s.token(0).isMark("(")
}

func (p *progress) add(q progress) {
	p.readRows += q.readRows
	p.readBytes += q.readBytes
	p.writtenRows += q.writtenRows
	p.writtenBytes += q.writtenBytes
	p.resultRows += q.resultRows
}
