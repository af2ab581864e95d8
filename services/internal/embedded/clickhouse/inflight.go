package clickhouse

import (
	"context"
	"sort"
	"strings"
	"sync"
	"time"
)

// killInterval is how often a statement that shall end is told so: the engine learns of a statement only some time
// after the door did, so one order could come too early.
const killInterval = 20 * time.Millisecond

// running is a statement between its arrival and its end.
type running struct {
	id, user, sql string
	tag           string // comment in front of the statement; the engine has no query id of ours
	cancel        context.CancelCauseFunc
	done          chan struct{}
}

// inflight is the table of running statements that KILL QUERY works on.
type inflight struct {
	mu   sync.Mutex
	byID map[string]*running
}

// add registers a statement; a query id may run once at a time.
func (f *inflight) add(r *running) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.byID[r.id]; ok {
		return newException(codeQueryIDInUse, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", "Query with id = %s is already running.", r.id)
	}
	f.byID[r.id] = r
	return nil
}

func (f *inflight) remove(r *running) {
	f.mu.Lock()
	delete(f.byID, r.id)
	f.mu.Unlock()
	close(r.done)
}

// find returns the running ones among ids, or all when ids is nil.
func (f *inflight) find(ids []string) []*running {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []*running
	if ids == nil {
		for _, r := range f.byID {
			found = append(found, r)
		}
	}
	for _, id := range ids {
		if r, ok := f.byID[id]; ok {
			found = append(found, r)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].id < found[j].id })
	return found
}

var errKilled = newException(codeCancelled, "QUERY_WAS_CANCELLED", "Query was cancelled")

// killStatement is KILL QUERY WHERE query_id = '…' (or IN) [SYNC|ASYNC|TEST], the form that clients and recovery use.
type killStatement struct {
	ids        []string
	sync, test bool
}

// parseKill reads a KILL QUERY; ok is false for any other statement.
func parseKill(s statement) (k killStatement, ok bool, err error) {
	if !s.keyword(0, "KILL") || !s.keyword(1, "QUERY") {
		return k, false, nil
	}
	tokens := s.tokens[2:]
	take := func(match func(token) bool) bool {
		if len(tokens) > 0 && match(tokens[0]) {
			tokens = tokens[1:]
			return true
		}
		return false
	}
	word := func(w string) bool { return take(func(t token) bool { return t.is(w) }) }
	mark := func(m string) bool { return take(func(t token) bool { return t.isMark(m) }) }
	value := func() bool {
		return take(func(t token) bool {
			if t.kind == tokenString {
				k.ids = append(k.ids, t.text)
			}
			return t.kind == tokenString
		})
	}
	good := word("WHERE") && take(func(t token) bool { return t.name() && strings.EqualFold(t.text, "query_id") })
	switch {
	case good && mark("="):
		good = value()
	case good && word("IN"):
		good = mark("(") && value()
		for good && mark(",") {
			good = value()
		}
		good = good && mark(")")
	default:
		good = false
	}
	switch {
	case word("SYNC"):
		k.sync = true
	case word("TEST"):
		k.test = true
	default:
		word("ASYNC")
	}
	if word("FORMAT") {
		take(token.name)
	}
	if !good || len(tokens) > 0 {
		return k, true, newException(codeNotImplemented, "NOT_IMPLEMENTED",
			"KILL QUERY works here as KILL QUERY WHERE query_id = '...' [SYNC|ASYNC|TEST]")
	}
	return k, true, nil
}

// kill ends the statements and returns the SELECT whose answer is the one of KILL QUERY. With SYNC it returns only
// when they have really ended, the engine's part included.
func (f *inflight) kill(ctx context.Context, k killStatement) (statement, error) {
	found := f.find(k.ids)
	status := "waiting"
	if k.sync {
		status = "finished"
	}
	if !k.test {
		for _, r := range found {
			r.cancel(errKilled)
		}
	}
	if k.sync {
		for _, r := range found {
			select {
			case <-r.done:
			case <-ctx.Done():
				return statement{}, context.Cause(ctx)
			}
		}
	}
	columns := "'' AS kill_status, '' AS query_id, '' AS user, '' AS query"
	if len(found) == 0 {
		return parseStatement("SELECT " + columns + " WHERE 0")
	}
	rows := make([]string, 0, len(found))
	for _, r := range found {
		rows = append(rows, "("+strings.Join([]string{quoteString(status), quoteString(r.id), quoteString(r.user), quoteString(r.sql)}, ", ")+")")
	}
	return parseStatement("SELECT tupleElement(r, 1) AS kill_status, tupleElement(r, 2) AS query_id, tupleElement(r, 3) AS user, " +
		"tupleElement(r, 4) AS query FROM (SELECT arrayJoin([" + strings.Join(rows, ", ") + "]) AS r)")
}
