// Package postgres is the one door to PostgreSQL: a pool whose transactions carry the tenant, migrations per context,
// and errors mapped to kinds.
//
// Tenancy: the services log in with one role that may become three others. mekong_owner owns the schemas and runs
// migrations; mekong_app is what every connection of the pool is from its first moment and sees only rows of the
// workspaces that the transaction names; mekong_system, for relays and recovery, sees all. A tenant table is made by
// `SELECT mekong.tenant_table('schema.table')` in its migration: row-level security, forced, with both policies.
//
// Invariants:
//   - A statement outside InWorkspace, InWorkspaces or AsSystem sees no tenant row, and cannot write one.
//   - Nothing of a workspace outlives its transaction: role and workspaces are set LOCAL.
//   - Errors never repeat values: a PostgreSQL message may quote the data, so SQLError prints its code and names only.
//
// Non-obvious:
//   - Migrations run with row_security off, so a backfill that forgets its role fails loudly, not with zero rows. It
//     says `SET LOCAL ROLE mekong_system; SET LOCAL row_security = on;`, works, then `SET LOCAL ROLE mekong_owner;`.
//   - Functions in schema mekong are called by old migrations for ever: they are never changed in meaning; a new
//     meaning gets a new name.
//   - Partitions of a tenant table need mekong.tenant_table themselves: policies of a parent do not guard its children.
package postgres
