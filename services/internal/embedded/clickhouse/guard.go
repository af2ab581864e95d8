package clickhouse

import (
	"strings"
)

// role is what a user may do.
type role uint8

const (
	roleReader role = iota
	roleOwner
)

// harmlessFunctions are the table functions of the engine that stay inside it; readers may use no other one.
var harmlessFunctions = newNameSet("numbers numbers_mt zeros zeros_mt generate_series generateSeries generateRandom values " +
	"null view viewExplain viewIfPermitted merge format primes")

// refusedFunctions leave the engine but are not in its list of table functions.
var refusedFunctions = newNameSet("file catboostEvaluate modelEvaluate jdbc executable url urlCluster s3 s3Cluster remote " +
	"remoteSecure cluster clusterAllReplicas hdfs hdfsCluster azureBlobStorage mysql postgresql mongodb redis sqlite odbc " +
	"python filesystem fileCluster input addressToLine addressToSymbol demangle")

// nameSet holds names without regard to case: the engine accepts several spellings of a function.
type nameSet map[string]struct{}

func newNameSet(names string) nameSet {
	set := nameSet{}
	for _, name := range strings.Fields(names) {
		set[strings.ToLower(name)] = struct{}{}
	}
	return set
}

func (s nameSet) has(name string) bool {
	_, ok := s[strings.ToLower(name)]
	return ok
}

// guard decides which statements reach the engine. It trusts neither its own reading nor the engine's alone: both the
// tokens and the engine's parser must agree that a text is one statement of an allowed kind.
type guard struct {
	tableFunctions nameSet // all that the engine has
}

// checkTokens refuses by the text alone, before the statement takes a slot.
func (g guard) checkTokens(s statement, r role) error {
	for i, t := range s.tokens {
		if t.is("INTO") && s.keyword(i+1, "OUTFILE") {
			return refused("INTO OUTFILE writes files of the server; read the answer instead")
		}
		if t.is("INFILE") && i > 0 && s.tokens[i-1].is("FROM") && s.keyword(0, "INSERT") {
			return refused("FROM INFILE reads files of the server; send the data with the request")
		}
		if r == roleReader && t.name() && s.token(i+1).isMark("(") && g.leaves(t.text) {
			return refused("function %s is for the owner only", t.text)
		}
	}
	if s.keyword(0, "SET", "USE", "BEGIN", "COMMIT", "ROLLBACK") {
		return newException(codeNotImplemented, "NOT_IMPLEMENTED",
			"%s needs a session and sessions keep no state here; send settings and database with each request", strings.ToUpper(s.token(0).text))
	}
	if s.keyword(0, "CREATE", "DROP") && (s.keyword(1, "TEMPORARY") || s.keyword(3, "TEMPORARY")) {
		return newException(codeNotImplemented, "NOT_IMPLEMENTED",
			"Temporary tables need a session and sessions keep no state here; use a table of engine Memory")
	}
	return nil
}

func (g guard) leaves(function string) bool {
	return refusedFunctions.has(function) || g.tableFunctions.has(function) && !harmlessFunctions.has(function)
}

// checkClass refuses by what the engine's parser says. readOnly is the statement of a reader or of a GET request.
func (g guard) checkClass(s statement, a analysis, r role, get bool) error {
	switch {
	case a.statements > 1:
		return newException(codeSyntaxError, "SYNTAX_ERROR", "Multi-statements are not allowed; send one statement in a request")
	case a.class == classUnknown:
		return nil // it does not parse: the engine says where
	case a.class == classReadOnly:
		return nil
	case r == roleReader:
		return newException(codeReadOnly, "READONLY", "Cannot execute query in readonly mode")
	case get:
		return newException(codeReadOnly, "READONLY",
			"Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries")
	case a.class == classControl:
		return checkControl(s)
	}
	return nil
}

// checkControl lists what an owner may do beyond reading and writing tables.
func checkControl(s statement) error {
	switch {
	case s.keyword(0, "INSERT", "CREATE", "ALTER", "DROP", "ATTACH", "DETACH", "BACKUP", "RESTORE", "OPTIMIZE", "EXPLAIN"):
		return nil
	case s.keyword(0, "KILL") && s.keyword(1, "MUTATION"):
		return nil
	case s.keyword(0, "SYSTEM"):
		if s.keyword(1, "FLUSH", "RELOAD", "SYNC", "REFRESH", "WAIT", "CLEAR") || s.keyword(1, "DROP") && s.hasWord("CACHE") ||
			s.keyword(1, "START", "STOP") && s.keyword(2, "MERGES", "TTL", "MOVES", "VIEW", "VIEWS") {
			return nil
		}
	}
	return refused("statement %s %s is not available", strings.ToUpper(s.token(0).text), strings.ToUpper(s.token(1).text))
}

func (s statement) hasWord(word string) bool {
	for _, t := range s.tokens {
		if t.is(word) {
			return true
		}
	}
	return false
}

func refused(format string, args ...any) error {
	return newException(codeAccessDenied, "ACCESS_DENIED", "Not enough privileges: "+format, args...)
}
