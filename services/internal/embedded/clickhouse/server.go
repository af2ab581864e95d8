package clickhouse

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

const (
	displayName = "mekong"
	timezone    = "UTC"
	// serverVersion is what SELECT version() of the pinned library answers.
	serverVersion = "26.7.2.1"
)

// server is the HTTP interface in the child.
type server struct {
	log           *slog.Logger
	pool          *pool
	accounts      map[string]account
	guard         guard
	knownSettings nameSet
	inflight      *inflight
	classes       *classCache
	slots         chan struct{}
	queueTime     time.Duration
	buffer        int
	tempDir       string
	chunks        sync.Pool       // *[]byte of insertChunk
	stopping      context.Context // done when the engine stops

	killMu  sync.Mutex
	control *session // runs KILL for statements that shall end
}

// ServeHTTP is http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ping", "/replicas_status":
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n")
		return
	case "/":
	default:
		http.Error(w, "There is no handle "+r.URL.Path+". Use / with a query, or /ping for health checks.", http.StatusNotFound)
		return
	}
	if r.Method == http.MethodGet && r.URL.RawQuery == "" && r.ContentLength == 0 {
		_, _ = io.WriteString(w, "Ok.\n")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
		http.Error(w, "Use GET for reading and POST for everything else.", http.StatusMethodNotAllowed)
		return
	}
	req, err := s.parseRequest(r)
	if req == nil {
		req = &request{queryID: newQueryID()}
	}
	resp := newResponse(w, req, s.buffer, s.tempDir)
	defer resp.close()
	if err == nil {
		err = s.serve(r, req, resp)
	}
	if err != nil && resp.fail(s.asException(err)) {
		panic(http.ErrAbortHandler) // the only way to break a response that began, so that it is never taken for whole
	}
}

// asException gives every error a ClickHouse code.
func (s *server) asException(err error) *exception {
	var e *exception
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errKilled
	default:
		s.log.Error("request failed", "error", err)
		return newException(codeUnknownException, "UNKNOWN_EXCEPTION", "%v", err)
	}
}

// serve runs one request, from its registration to its end.
func (s *server) serve(r *http.Request, req *request, resp *response) (err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.stopping, func() { cancel(errStopping) })()
	entry := &running{id: req.queryID, user: req.user, tag: "/* mekong:" + newQueryID() + " */ ", cancel: cancel, done: make(chan struct{})}
	if err := s.inflight.add(entry); err != nil {
		return err
	}
	defer s.inflight.remove(entry)
	// A killed statement may wait for its client; these deadlines end that wait.
	control := http.NewResponseController(resp.w)
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errKilled) {
			_ = control.SetReadDeadline(time.Now())
			_ = control.SetWriteDeadline(time.Now().Add(2 * time.Second))
		}
	})()

	if err := req.readStatement(r); err != nil {
		return s.cause(ctx, err)
	}
	entry.sql = req.stmt.sql
	if err := s.guard.checkTokens(req.stmt, req.role); err != nil {
		return err
	}
	k, isKill, err := parseKill(req.stmt)
	if isKill {
		if err == nil && req.role != roleOwner {
			err = refused("KILL QUERY is for the owner only")
		}
		if err == nil {
			format := req.stmt.format
			if req.stmt, err = s.inflight.kill(ctx, k); err == nil && format != "" {
				req.format = format
			}
		}
		if err != nil {
			return err
		}
	}
	if req.isHandshake() {
		return sendHandshake(req, resp)
	}
	if !isKill { // what makes room must not wait for room
		if err := s.takeSlot(ctx); err != nil {
			return err
		}
		defer func() { <-s.slots }()
	}
	return s.cause(ctx, s.run(ctx, req, resp, entry))
}

var errStopping = newException(codeAborted, "ABORTED", "The engine is stopping; try again")

// cause prefers why the context ended over what broke because of it.
func (s *server) cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	var e *exception
	if errors.As(context.Cause(ctx), &e) {
		return e
	}
	return errKilled
}

// takeSlot waits for one of the places that statements run in.
func (s *server) takeSlot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(s.queueTime)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return newException(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES",
			"Too many simultaneous queries. Maximum: %d. Try again later", cap(s.slots))
	case <-ctx.Done():
		return s.cause(ctx, ctx.Err())
	}
}

// run executes the statement on a session of its own, told to end when ctx does.
func (s *server) run(ctx context.Context, req *request, resp *response, entry *running) error {
	key, setup := sessionSetup(req.database, req.settings, req.role)
	sess, err := s.pool.get(ctx, key, setup)
	if err != nil {
		return err
	}
	reusable := false
	defer func() {
		if reusable {
			s.pool.put(key, sess)
		} else {
			s.pool.discard(sess)
		}
	}()
	ended := make(chan struct{})
	watched := s.killWhenDone(ctx, entry.tag, ended)
	defer func() {
		close(ended)
		<-watched
	}()
	sess.do(func(c *connection) {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("statement panicked", "panic", p, "stack", string(debug.Stack()))
				err = newException(codeUnknownException, "LOGICAL_ERROR", "The engine door failed; the log has the reason")
			}
		}()
		var clean bool
		clean, err = s.execute(ctx, c, req, resp, entry.tag)
		if e := (*exception)(nil); errors.As(err, &e) {
			err = e.shifted(len(entry.tag))
		}
		reusable = err == nil && clean && ctx.Err() == nil
	})
	return err
}

// killWhenDone tells the engine again and again to end the tagged statement once ctx is done, until it has ended.
func (s *server) killWhenDone(ctx context.Context, tag string, ended <-chan struct{}) (watched <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		for {
			s.killTagged(context.WithoutCancel(ctx), tag)
			timer := time.NewTimer(killInterval)
			select {
			case <-ended:
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	}()
	return done
}

func (s *server) killTagged(ctx context.Context, tag string) {
	s.killMu.Lock()
	defer s.killMu.Unlock()
	if s.control == nil {
		control, err := openSession(ctx, s.pool.lib, s.pool.args, nil)
		if err != nil {
			s.log.Error("no session to kill a statement with", "error", err)
			return
		}
		s.control = control
	}
	var err error
	s.control.do(func(c *connection) {
		var r result
		if r, err = c.query("KILL QUERY WHERE startsWith(query, "+quoteString(tag)+") ASYNC", "Null", params{}); err == nil {
			r.free()
		}
	})
	if err != nil {
		s.control.close()
		s.control = nil
		s.log.Warn("a statement could not be killed", "error", err)
	}
}

// execute classifies the statement with the engine's parser and runs it. clean tells that, unless it failed, it left
// nothing behind in the connection: reads and streamed inserts do not.
func (s *server) execute(ctx context.Context, c *connection, req *request, resp *response, tag string) (clean bool, err error) {
	classified := req.stmt.sql
	if req.stmt.insertData {
		classified += " FORMAT " + req.stmt.format // without it the engine's parser misses the rows
	}
	a, err := s.classes.of(c, classified)
	if err != nil {
		return false, err
	}
	if err := s.guard.checkClass(req.stmt, a, req.role, req.get); err != nil {
		return false, err
	}
	switch {
	case a.class == classUnknown:
		return false, explainUnparsed(c, tag+req.stmt.sql)
	case req.stmt.insertData:
		return true, s.insert(ctx, c, req, resp, tag)
	default:
		return a.class == classReadOnly, s.query(ctx, c, req, resp, tag)
	}
}

// classCache remembers how the engine classified short texts: applications send the same few again and again.
type classCache struct {
	mu    sync.Mutex
	known map[string]analysis
}

const (
	maxClasses    = 1000
	maxClassBytes = 4 << 10
)

func (k *classCache) of(c *connection, sql string) (analysis, error) {
	k.mu.Lock()
	a, ok := k.known[sql]
	k.mu.Unlock()
	if ok {
		return a, nil
	}
	a, err := c.classify(sql)
	if err != nil || len(sql) > maxClassBytes {
		return a, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxClasses {
		clear(k.known)
	}
	k.known[sql] = a
	return a, nil
}

// explainUnparsed lets the engine say what is wrong with a text that its parser refused.
func explainUnparsed(c *connection, sql string) error {
	r, err := c.query(sql, "Null", params{})
	if err != nil {
		return err
	}
	r.free()
	return newException(codeSyntaxError, "SYNTAX_ERROR", "Empty query")
}

// handshake is the first statement of clickhouse-go on each connection.
const handshake = "SELECT displayName(), version(), revision(), timezone()"

func (req *request) isHandshake() bool {
	return req.clientProtocol > 0 && req.format == "Native" && strings.TrimSpace(req.stmt.sql) == handshake
}

// sendHandshake answers that this server writes Native at revision 0, as libchdb does, in a block of the revision that
// the client expects before it knows.
func sendHandshake(req *request, resp *response) error {
	name, version, zone := new(proto.ColStr), new(proto.ColStr), new(proto.ColStr)
	name.Append(displayName)
	version.Append(serverVersion)
	zone.Append(timezone)
	revision := proto.ColUInt32{0}
	input := []proto.InputColumn{
		{Name: "displayName()", Data: name},
		{Name: "version()", Data: version},
		{Name: "revision()", Data: &revision},
		{Name: "timezone()", Data: zone},
	}
	var buf proto.Buffer
	block := proto.Block{Columns: len(input), Rows: 1, Info: proto.BlockInfo{BucketNum: -1}}
	if err := block.EncodeBlock(&buf, req.clientProtocol, input); err != nil {
		return err
	}
	resp.setFormat("Native")
	if _, err := resp.Write(buf.Buf); err != nil {
		return err
	}
	return resp.finish(progress{readRows: 1, resultRows: 1})
}
