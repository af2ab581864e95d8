package clickhouse

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is the C API of libchdb. Every function that takes a connection blocks its operating system thread while the engine works.
type library struct {
	setSignalHandlers func(int32)
	connect           func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn         func(unsafe.Pointer)
	shutdown          func() int32
	version           func() string
	classify          func(conn, q unsafe.Pointer, qn uintptr, db unsafe.Pointer, dbn uintptr, out unsafe.Pointer) int32

	query       func(conn, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	streamQuery func(conn, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	fetch       func(conn, stream unsafe.Pointer) unsafe.Pointer
	cancelQuery func(conn, stream unsafe.Pointer)

	streamInsert  func(conn, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer
	append        func(stream, data unsafe.Pointer, n uintptr) int32
	insertDone    func(stream unsafe.Pointer) unsafe.Pointer
	insertCancel  func(stream unsafe.Pointer)
	insertDestroy func(stream unsafe.Pointer)
	insertError   func(stream unsafe.Pointer) unsafe.Pointer

	resultBuffer       func(unsafe.Pointer) unsafe.Pointer
	resultLength       func(unsafe.Pointer) uintptr
	resultError        func(unsafe.Pointer) unsafe.Pointer
	resultRows         func(unsafe.Pointer) uint64
	resultStorageRows  func(unsafe.Pointer) uint64
	resultStorageBytes func(unsafe.Pointer) uint64
	resultRowsWritten  func(unsafe.Pointer) uint64
	resultBytesWritten func(unsafe.Pointer) uint64
	resultDestroy      func(unsafe.Pointer)
}

// openLibrary loads the shared library. The engine's own signal handlers are off before anything connects: they would take SIGSEGV from Go's runtime.
func openLibrary(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	l := &library{}
	for name, target := range map[string]any{
		"chdb_set_signal_handlers_enabled": &l.setSignalHandlers,
		"chdb_connect":                     &l.connect,
		"chdb_close_conn":                  &l.closeConn,
		"chdb_shutdown":                    &l.shutdown,
		"chdb_version":                     &l.version,
		"chdb_classify_query_n":            &l.classify,
		"chdb_query_with_params_n":         &l.query,
		"chdb_stream_query_with_params_n":  &l.streamQuery,
		"chdb_stream_fetch_result":         &l.fetch,
		"chdb_stream_cancel_query":         &l.cancelQuery,
		"chdb_stream_insert_with_params_n": &l.streamInsert,
		"chdb_stream_append":               &l.append,
		"chdb_stream_done":                 &l.insertDone,
		"chdb_stream_cancel_insert":        &l.insertCancel,
		"chdb_destroy_insert_stream":       &l.insertDestroy,
		"chdb_stream_insert_error":         &l.insertError,
		"chdb_result_buffer":               &l.resultBuffer,
		"chdb_result_length":               &l.resultLength,
		"chdb_result_error":                &l.resultError,
		"chdb_result_rows_read":            &l.resultRows,
		"chdb_result_storage_rows_read":    &l.resultStorageRows,
		"chdb_result_storage_bytes_read":   &l.resultStorageBytes,
		"chdb_result_rows_written":         &l.resultRowsWritten,
		"chdb_result_bytes_written":        &l.resultBytesWritten,
		"chdb_destroy_query_result":        &l.resultDestroy,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("library lacks %s (another version than %s?): %w", name, LibraryVersion, err)
		}
		purego.RegisterFunc(target, symbol)
	}
	l.setSignalHandlers(0)
	return l, nil
}

// params are the values of {name:Type} placeholders, in the form that the HTTP interface gets them.
type params struct {
	names, values []string
}

// cParams is params laid out as the C arrays; it must stay reachable during the call.
type cParams struct {
	names, values         []unsafe.Pointer
	nameLens, valueLens   []uintptr
	pinner                runtime.Pinner
	namesPtr, nameLenPtr  unsafe.Pointer
	valuesPtr, valLensPtr unsafe.Pointer
}

func newCParams(p params) *cParams {
	c := &cParams{}
	for i := range p.names {
		c.names = append(c.names, c.bytes(p.names[i]))
		c.nameLens = append(c.nameLens, uintptr(len(p.names[i])))
		c.values = append(c.values, c.bytes(p.values[i]))
		c.valueLens = append(c.valueLens, uintptr(len(p.values[i])))
	}
	if len(c.names) > 0 {
		c.namesPtr, c.nameLenPtr = unsafe.Pointer(&c.names[0]), unsafe.Pointer(&c.nameLens[0])
		c.valuesPtr, c.valLensPtr = unsafe.Pointer(&c.values[0]), unsafe.Pointer(&c.valueLens[0])
		for _, p := range []unsafe.Pointer{c.namesPtr, c.nameLenPtr, c.valuesPtr, c.valLensPtr} {
			c.pinner.Pin(p)
		}
	}
	return c
}

// bytes pins a NUL-terminated copy: some code paths of the engine read past the given length up to a NUL.
func (c *cParams) bytes(s string) unsafe.Pointer {
	b := append([]byte(s), 0)
	c.pinner.Pin(&b[0])
	return unsafe.Pointer(&b[0])
}

// connection is one session of the engine. It runs one statement at a time and is never used again after an error.
type connection struct {
	lib    *library
	handle unsafe.Pointer // chdb_connection *
	inner  unsafe.Pointer // chdb_connection
}

var errConnect = errors.New("the engine refused the connection")

// open connects with command line arguments such as --path= and --max_threads=.
func (l *library) open(args []string) (*connection, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	argv := make([]unsafe.Pointer, 0, len(args)+2)
	for _, arg := range append([]string{"clickhouse"}, args...) {
		b := append([]byte(arg), 0)
		pinner.Pin(&b[0])
		argv = append(argv, unsafe.Pointer(&b[0]))
	}
	argv = append(argv, nil)
	pinner.Pin(&argv[0])
	handle := l.connect(int32(len(argv)-1), unsafe.Pointer(&argv[0]))
	if handle == nil {
		return nil, errConnect
	}
	inner := *(*unsafe.Pointer)(handle)
	if inner == nil {
		return nil, errConnect
	}
	return &connection{lib: l, handle: handle, inner: inner}, nil
}

func (c *connection) close() {
	if c.handle != nil {
		c.lib.closeConn(c.handle)
		c.handle, c.inner = nil, nil
	}
}

// Classes of chdb_classify_query_n.
const (
	classReadOnly       = 0
	classMutating       = 1
	classMutatingGlobal = 2
	classControl        = 3
	classUnknown        = 4
)

// analysis mirrors chdb_query_analysis_v1.
type analysis struct {
	size       uint32
	statements uint32
	flags      uint32
	class      uint32
}

// classify asks the engine's own parser what a text is, without running it.
func (c *connection) classify(sql string) (analysis, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	out := &analysis{size: uint32(unsafe.Sizeof(analysis{}))}
	pinner.Pin(out)
	q := unsafe.StringData(sql)
	if len(sql) == 0 {
		return analysis{class: classUnknown}, nil
	}
	if c.lib.classify(c.inner, unsafe.Pointer(q), uintptr(len(sql)), nil, 0, unsafe.Pointer(out)) != 0 {
		return analysis{}, errors.New("the engine could not classify the statement")
	}
	runtime.KeepAlive(sql)
	return *out, nil
}

// result is a materialised answer or one chunk of a stream. Its bytes belong to the engine until free.
type result struct {
	lib *library
	ptr unsafe.Pointer
}

func (r result) bytes() []byte {
	n := r.lib.resultLength(r.ptr)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.lib.resultBuffer(r.ptr)), n)
}

func (r result) err() error { return engineError(r.lib.resultError(r.ptr)) }

func (r result) free() { r.lib.resultDestroy(r.ptr) }

// progress is what the X-ClickHouse-Summary header tells.
type progress struct {
	readRows, readBytes, writtenRows, writtenBytes, resultRows uint64
}

func (r result) progress() progress {
	return progress{
		readRows:     r.lib.resultStorageRows(r.ptr),
		readBytes:    r.lib.resultStorageBytes(r.ptr),
		writtenRows:  r.lib.resultRowsWritten(r.ptr),
		writtenBytes: r.lib.resultBytesWritten(r.ptr),
		resultRows:   r.lib.resultRows(r.ptr),
	}
}

// query runs a statement to its end and returns the whole answer.
func (c *connection) query(sql, format string, p params) (result, error) {
	return c.start(c.lib.query, sql, format, p)
}

// stream starts a SELECT whose answer is fetched in chunks.
func (c *connection) stream(sql, format string, p params) (result, error) {
	return c.start(c.lib.streamQuery, sql, format, p)
}

type startFunc = func(conn, q unsafe.Pointer, qn uintptr, f unsafe.Pointer, fn uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) unsafe.Pointer

func (c *connection) start(call startFunc, sql, format string, p params) (result, error) {
	ptr := c.call(call, sql, format, p)
	if ptr == nil {
		return result{}, errors.New("the engine gave no result")
	}
	r := result{lib: c.lib, ptr: ptr}
	if err := r.err(); err != nil {
		r.free()
		return result{}, err
	}
	return r, nil
}

func (c *connection) call(call startFunc, sql, format string, p params) unsafe.Pointer {
	cp := newCParams(p)
	defer cp.pinner.Unpin()
	q, f := cp.bytes(sql), cp.bytes(format)
	return call(c.inner, q, uintptr(len(sql)), f, uintptr(len(format)),
		cp.namesPtr, cp.nameLenPtr, cp.valuesPtr, cp.valLensPtr, uintptr(len(p.names)))
}

// fetch returns the next chunk of a stream; an empty chunk is its end.
func (c *connection) fetch(stream result) (result, error) {
	ptr := c.lib.fetch(c.inner, stream.ptr)
	if ptr == nil {
		return result{}, errors.New("the engine gave no result")
	}
	r := result{lib: c.lib, ptr: ptr}
	if err := r.err(); err != nil {
		r.free()
		return result{}, err
	}
	return r, nil
}

func (c *connection) cancel(stream result) { c.lib.cancelQuery(c.inner, stream.ptr) }

// insertStream is an INSERT that takes its data in chunks. Only this path is safe for binary formats:
// data given inline to a query ends at the first blank line, without an error.
type insertStream struct {
	lib *library
	ptr unsafe.Pointer
}

// insert starts an INSERT; sql has no FORMAT clause.
func (c *connection) insert(sql, format string, p params) (insertStream, error) {
	s := insertStream{lib: c.lib, ptr: c.call(c.lib.streamInsert, sql, format, p)}
	if err := s.err(); err != nil {
		s.free()
		return insertStream{}, err
	}
	return s, nil
}

func (s insertStream) err() error { return engineError(s.lib.insertError(s.ptr)) }

func (s insertStream) append(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	state := s.lib.append(s.ptr, unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data)))
	runtime.KeepAlive(data)
	if state == 0 {
		return nil
	}
	if err := s.err(); err != nil {
		return err
	}
	return errors.New("the engine refused the data")
}

// done commits and returns what was written.
func (s insertStream) done() (progress, error) {
	ptr := s.lib.insertDone(s.ptr)
	if ptr == nil {
		return progress{}, errors.New("the engine gave no result")
	}
	r := result{lib: s.lib, ptr: ptr}
	defer r.free()
	if err := r.err(); err != nil {
		return progress{}, err
	}
	return r.progress(), nil
}

func (s insertStream) cancel() { s.lib.insertCancel(s.ptr) }

func (s insertStream) free() { s.lib.insertDestroy(s.ptr) }

// engineError copies a C string into an error; nil stays nil.
func engineError(ptr unsafe.Pointer) error {
	if ptr == nil {
		return nil
	}
	n := 0
	for *(*byte)(unsafe.Add(ptr, n)) != 0 {
		n++
	}
	return parseException(string(unsafe.Slice((*byte)(ptr), n)))
}
