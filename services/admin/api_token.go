package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const (
	tokenPrefix    = "mk_"
	tokenBytes     = 32
	maxTokenLength = 256
	// lastUsedStep is how exact last_used_at is: a busy token costs one write a minute, not one a request.
	lastUsedStep = time.Minute
)

// Scope is one right that a token may carry.
type Scope struct {
	Name    string
	Meaning string
}

// ScopeAll is every right, those of later versions included.
const ScopeAll = "*"

// Scopes the service asks for.
const (
	scopeWorkspacesRead   = "workspaces:read"
	scopeWorkspacesWrite  = "workspaces:write"
	scopeOrganisationRead = "organisation:read"
	scopeSourcesRead      = "sources:read"
	scopeSourcesWrite     = "sources:write"
	scopeTokensRead       = "tokens:read"
	scopeTokensWrite      = "tokens:write"
	scopeAuditRead        = "audit:read"
)

// Scopes returns the vocabulary. A scope "<noun>:write" includes "<noun>:read".
func Scopes() []Scope {
	return []Scope{
		{scopeWorkspacesRead, "see workspaces and their settings"},
		{scopeWorkspacesWrite, "create workspaces and change their settings"},
		{scopeOrganisationRead, "see the organisation"},
		{scopeSourcesRead, "see sources and their write keys"},
		{scopeSourcesWrite, "create, change and delete sources and write keys"},
		{scopeTokensRead, "see API tokens, without their secrets"},
		{scopeTokensWrite, "create and revoke API tokens"},
		{scopeAuditRead, "read the audit log"},
		{"destinations:read", "see destinations and what was delivered"},
		{"destinations:write", "create, change and delete destinations"},
		{"sql:read", "ask questions in SQL"},
		{ScopeAll, "everything"},
	}
}

// APIToken lets a program act for an organisation or one of its workspaces. Only the hash of its secret is kept.
type APIToken struct {
	ID             string
	OrganisationID string
	// WorkspaceID is empty for a token of the whole organisation.
	WorkspaceID string
	Name        string
	Scopes      []string
	SecretHash  [sha256.Size]byte
	CreatedAt   time.Time
	ExpiresAt   time.Time
	RevokedAt   time.Time
	LastUsedAt  time.Time
}

// Validate reports every field that cannot be stored.
func (t APIToken) Validate(now time.Time) error {
	var p problems
	p.checkName(t.Name)
	if len(t.Scopes) == 0 {
		p.add("scopes", "give at least one of "+scopeNames())
	}
	for _, scope := range t.Scopes {
		if !isScope(scope) {
			p.add("scopes", "only these exist: "+scopeNames())
			break
		}
	}
	if !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) {
		p.add("expires_at", "must be in the future")
	}
	return p.err("invalid_api_token")
}

// Accepted tells whether the token may be used at now.
func (t APIToken) Accepted(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// matches compares in a time that does not depend on where the hashes differ.
func (t APIToken) matches(hash [sha256.Size]byte) bool {
	return subtle.ConstantTimeCompare(t.SecretHash[:], hash[:]) == 1
}

// usedLongAgo tells whether last_used_at is worth a write.
func (t APIToken) usedLongAgo(now time.Time) bool {
	return !now.Before(t.LastUsedAt.Add(lastUsedStep))
}

func newTokenSecret() string { return tokenPrefix + randomBase62(tokenBytes) }

// hashSecret needs no salt and no slow hash: a secret has 256 random bits.
func hashSecret(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

func isScope(name string) bool {
	return slices.ContainsFunc(Scopes(), func(s Scope) bool { return s.Name == name })
}

func scopeNames() string {
	var names []string
	for _, s := range Scopes() {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// normalizeScopes sorts and takes out repetitions, so that two equal lists are equal rows.
func normalizeScopes(scopes []string) []string {
	out := slices.Clone(scopes)
	slices.Sort(out)
	return slices.Compact(out)
}

// randomBase62 returns n random bytes as a text of one length, whatever the bytes.
func randomBase62(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails: the program ends where the system has no randomness
	length := len(new(big.Int).Lsh(big.NewInt(1), uint(8*n)).Text(62))
	text := new(big.Int).SetBytes(raw).Text(62)
	return strings.Repeat("0", length-len(text)) + text
}

func errTokenNotFound() error {
	return errs.New(errs.NotFound, "api_token_not_found", "There is no such API token, or this token may not see it.")
}

func errTokenRefused() error {
	return errs.New(errs.Unauthenticated, "invalid_token", "This API token is unknown, expired or revoked; create another one.")
}
