package clickhouse

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	// statementPeek is how much of a body is looked at to find where a statement ends and its data begin.
	statementPeek = 256 << 10
	// maxStatement bounds a statement without data.
	maxStatement = 16 << 20
)

// request is an HTTP request, understood.
type request struct {
	user     string
	role     role
	get      bool
	database string
	format   string // default_format
	queryID  string
	settings []setting
	params   params

	waitEnd        bool
	compress       bool
	networkMethod  string
	acceptEncoding string
	clientProtocol int

	stmt statement
	data io.Reader // rows of an insert
}

// account is a user that may sign in.
type account struct {
	sum  [sha256.Size]byte
	role role
}

func newAccount(password string, r role) account {
	return account{sum: sha256.Sum256([]byte(password)), role: r}
}

// authenticate reads the credentials in the order of ClickHouse: headers, Basic, query.
func (s *server) authenticate(r *http.Request, query url.Values) (string, role, error) {
	user, password := r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	if user == "" && password == "" {
		var ok bool
		if user, password, ok = r.BasicAuth(); !ok {
			user, password = query.Get("user"), query.Get("password")
		}
	}
	if user == "" {
		user = "default"
	}
	known, ok := s.accounts[user]
	sum := sha256.Sum256([]byte(password))
	if subtle.ConstantTimeCompare(sum[:], known.sum[:]) != 1 || !ok {
		return "", 0, newException(codeAuthentication, "AUTHENTICATION_FAILED",
			"%s: Authentication failed: password is incorrect, or there is no user with such name.", strings.ToValidUTF8(user, "?"))
	}
	return user, known.role, nil
}

// parseRequest understands everything but the statement.
func (s *server) parseRequest(r *http.Request) (*request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newException(codeBadArguments, "BAD_ARGUMENTS", "The query string cannot be parsed")
	}
	req := &request{get: r.Method == http.MethodGet || r.Method == http.MethodHead}
	req.queryID = firstOf(query.Get("query_id"), r.Header.Get("X-ClickHouse-Query-Id"), newQueryID())
	if req.user, req.role, err = s.authenticate(r, query); err != nil {
		return req, err
	}
	req.database = firstOf(query.Get("database"), r.Header.Get("X-ClickHouse-Database"), DefaultDatabase)
	req.format = firstOf(r.Header.Get("X-ClickHouse-Format"), query.Get("default_format"), "TabSeparated")
	req.networkMethod = query.Get("network_compression_method")
	if query.Get("enable_http_compression") != "0" {
		req.acceptEncoding = chooseEncoding(r.Header.Get("Accept-Encoding"))
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		return req, newException(codeNotImplemented, "NOT_IMPLEMENTED", "External tables are not supported here; insert the data into a table")
	}
	for name, values := range query {
		if err := s.takeParameter(req, name, values[0]); err != nil {
			return req, err
		}
	}
	return req, nil
}

func (s *server) takeParameter(req *request, name, value string) (err error) {
	switch name {
	case "query", "user", "password", "database", "default_format", "query_id", "quota_key", "network_compression_method",
		"enable_http_compression", "http_zlib_compression_level", "session_id", "session_timeout", "session_check",
		"close_session", "buffer_size", "stacktrace", "decompress", "http_native_compression_disable_checksumming_on_decompress":
		return nil
	case "wait_end_of_query":
		req.waitEnd = isTrue(value)
		return nil
	case "compress":
		req.compress = isTrue(value)
		return nil
	case "client_protocol_version":
		if req.clientProtocol, err = strconv.Atoi(value); err != nil {
			return newException(codeBadArguments, "BAD_ARGUMENTS", "client_protocol_version must be a number")
		}
		return nil
	case "role":
		return newException(codeNotImplemented, "NOT_IMPLEMENTED", "SQL roles do not exist here")
	}
	if param, ok := strings.CutPrefix(name, "param_"); ok {
		req.params.names = append(req.params.names, param)
		req.params.values = append(req.params.values, value)
		return nil
	}
	if err := checkSetting(name, req.role, s.knownSettings); err != nil {
		return err
	}
	req.settings = append(req.settings, setting{name, value})
	return nil
}

// readStatement takes the statement from the query string and the body, as ClickHouse does: one text after the other.
func (req *request) readStatement(r *http.Request) error {
	query := r.URL.Query()
	body, err := decodeBody(r.Body, r.Header.Get("Content-Encoding"), isTrue(query.Get("decompress")))
	if errors.Is(err, io.EOF) {
		body, err = strings.NewReader(""), nil // an empty body has no header of any encoding
	}
	if err != nil {
		return err
	}
	head := query.Get("query")
	if head != "" {
		if req.stmt, err = parseStatement(head); err == nil && req.stmt.insertData {
			req.data = io.MultiReader(strings.NewReader(head[req.stmt.dataStart:]), body)
			return nil
		}
		head += "\n"
	}
	buffered := bufio.NewReaderSize(body, statementPeek)
	peeked, peekErr := buffered.Peek(statementPeek)
	if peekErr != nil && !errors.Is(peekErr, io.EOF) {
		return bodyError(peekErr)
	}
	if req.stmt, err = parseStatement(head + string(peeked)); err == nil && req.stmt.insertData {
		if _, err := buffered.Discard(max(0, req.stmt.dataStart-len(head))); err != nil {
			return bodyError(err)
		}
		req.data = buffered
		return nil
	}
	if peekErr != nil { // all of it was seen
		return err
	}
	rest, err := io.ReadAll(io.LimitReader(buffered, maxStatement+1))
	if err != nil {
		return bodyError(err)
	}
	if len(rest) > maxStatement {
		return newException(codeSyntaxError, "SYNTAX_ERROR", "Max query size exceeded: a statement may have %d bytes", maxStatement)
	}
	req.stmt, err = parseStatement(head + string(rest))
	return err
}

// bodyError names a body that could not be read to its end.
func bodyError(err error) error {
	var e *exception
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newException(codeUnexpectedEndOfFile, "UNEXPECTED_END_OF_FILE", "The body ended early; nothing of it was written")
	default:
		return newException(codeIncorrectData, "INCORRECT_DATA", "The body cannot be read: %v; nothing of it was written", err)
	}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func isTrue(s string) bool { return s == "1" || strings.EqualFold(s, "true") }

func newQueryID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
