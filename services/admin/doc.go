// Package admin is the control plane: the organisation, its workspaces, their sources with write keys, API tokens and the
// audit log.
//
// Topics out: mekong.admin.config-changes.v1 (the read model: newest state of workspaces, sources, write keys, one
// partition) and mekong.admin.audit.v1. Topics in: none. Tables: schema admin.
//
// Invariants:
//   - A change, its audit entry and its messages are written in one transaction; the outbox carries the messages.
//   - Changes of the read model run one at a time over all instances (an advisory lock), so the log has them in the order
//     in which they were decided. Full publications go the same way: no old state can come to the log behind a new one.
//   - Revisions of a thing rise with each change, and follow the clock, so that they rise even over a lost database.
//   - Deleted sources and ended keys stay, published as such, for Config.DeletedRetention.
//   - A token's secret is shown once; only its SHA-256 is kept. No token can grant what it lacks.
//   - Whoever forgets a filter sees nothing: every table has row-level security. A transaction that may see a whole
//     organisation names the organisation's id in mekong.workspaces beside those of workspaces.
//
// Non-obvious:
//   - A token of one workspace with scope "*" still cannot act on the organisation; a token of the organisation may enter
//     a workspace that is younger than the list of workspaces in its Principal.
//   - ResolveWriteKey, AuthenticateToken and RecordAudit are for the services themselves: no scope opens them.
//   - The demo's credentials are known to everyone, so every start that is no demo revokes them.
package admin
