package identity

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// assignTx is one transaction of PostgresStore.Assign: lock identifiers by hash, then profiles by id, read again what the
// locks protect, decide, write.
//
// Each row is reached by its key, whatever the planner believes: with row-level security it likes to read all rows of
// the workspace and hash them, which grows with the table. A lateral sub-query with a lock or OFFSET 0 cannot be turned
// into such a join, and an upsert always probes its index. Locks are taken in the order of the arrays.
type assignTx struct {
	tx        pgx.Tx
	partition int32
	events    []Event
	rows      []identifierRow // by hash

	owners  map[ids.Hash]string // profile ids of known identifiers
	persons map[string]*person  // by profile id
}

// lock makes every identifier a row and locks all of them, so that two transactions never decide about one identifier
// at a time; whoever comes second sees what the first decided.
func (t *assignTx) lock(ctx context.Context) error {
	workspaces, hashes := keysOf(t.rows)
	kinds, values := make([]string, len(t.rows)), make([]string, len(t.rows))
	for i := range t.rows {
		kinds[i], values[i] = t.rows[i].Type, t.rows[i].Value
	}
	if _, err := t.tx.Exec(ctx, `
		INSERT INTO identity.identifiers (workspace_id, hash, type, value)
		SELECT w, h, k, v FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[]) WITH ORDINALITY AS r (w, h, k, v, n)
		ORDER BY n
		ON CONFLICT DO NOTHING`, workspaces, hashes, kinds, values); err != nil {
		return err
	}
	rows, err := t.tx.Query(ctx, `
		SELECT k.workspace_id::text, k.hash, coalesce(i.profile_id::text, '')
		FROM unnest($1::uuid[], $2::bytea[]) AS k (workspace_id, hash)
		CROSS JOIN LATERAL (
			SELECT profile_id FROM identity.identifiers
			WHERE workspace_id = k.workspace_id AND hash = k.hash
			FOR UPDATE
		) AS i`, workspaces, hashes)
	if err != nil {
		return err
	}
	t.owners, t.persons = map[ids.Hash]string{}, map[string]*person{}
	var workspaceID, profileID string
	var hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&workspaceID, &hash, &profileID}, func() error {
		if profileID != "" {
			t.owners[ids.Hash(hash)] = profileID
			t.persons[profileID] = &person{workspaceID: workspaceID, holds: map[string]bool{}}
		}
		return nil
	}); err != nil {
		return err
	}
	return t.lockProfiles(ctx)
}

func (t *assignTx) lockProfiles(ctx context.Context) error {
	if len(t.persons) == 0 {
		return nil
	}
	profiles := slices.Sorted(maps.Keys(t.persons))
	workspaces := make([]string, len(profiles))
	for i, id := range profiles {
		workspaces[i] = t.persons[id].workspaceID
	}
	rows, err := t.tx.Query(ctx, `
		SELECT k.id::text, p.profile_no, p.version, p.holds
		FROM unnest($1::uuid[], $2::uuid[]) AS k (workspace_id, id)
		CROSS JOIN LATERAL (
			SELECT profile_no, version, holds FROM identity.profiles
			WHERE workspace_id = k.workspace_id AND id = k.id
			FOR UPDATE
		) AS p`, workspaces, profiles)
	if err != nil {
		return err
	}
	var p Profile
	var holds []string
	_, err = pgx.ForEachRow(rows, []any{&p.ID, &p.No, &p.Version, &holds}, func() error {
		person := t.persons[p.ID]
		person.Profile = p
		for _, kind := range holds {
			person.holds[kind] = true
		}
		return nil
	})
	return err
}

// decide applies the rule to the events that have no decision yet and gives new profiles their numbers.
func (t *assignTx) decide(ctx context.Context) (*assignment, map[int64]Decision, error) {
	offsets := make([]int64, len(t.events))
	for i := range t.events {
		offsets[i] = t.events[i].Offset
	}
	earlier, err := scanDecisions(t.tx.Query(ctx, selectDecisions+`src_partition = $1 AND src_offset = ANY ($2)`, t.partition, offsets))
	if err != nil {
		return nil, nil, err
	}
	a := &assignment{newID: ids.New, owner: make(map[ids.Hash]*person, len(t.rows))}
	for hash, profileID := range t.owners {
		a.owner[hash] = t.persons[profileID]
	}
	for i := range t.events {
		e := &t.events[i]
		if d, ok := earlier[e.Offset]; ok && d.EventHash == e.Hash {
			continue
		}
		// A decision about another event is from a log that is gone; the new one replaces it.
		delete(earlier, e.Offset)
		a.add(e)
	}
	if len(a.created) == 0 {
		return a, earlier, nil
	}
	rows, err := t.tx.Query(ctx, `SELECT nextval('identity.profile_no') FROM generate_series(1, $1)`, len(a.created))
	if err != nil {
		return nil, nil, err
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, nil, err
	}
	for i, p := range a.created {
		p.No = numbers[i]
	}
	return a, earlier, nil
}

func (t *assignTx) write(ctx context.Context, a *assignment) error {
	batch := &pgx.Batch{}
	t.writeProfiles(batch, a)
	t.writeIdentifiers(batch, a)
	t.writeEvidence(batch, a)
	if batch.Len() == 0 {
		return nil
	}
	return t.tx.SendBatch(ctx, batch).Close()
}

func (t *assignTx) writeProfiles(batch *pgx.Batch, a *assignment) {
	var workspaces, profiles []string
	var holds []string
	var numbers, versions []int64
	add := func(p *person) {
		workspaces, profiles = append(workspaces, p.workspaceID), append(profiles, p.ID)
		numbers, versions = append(numbers, p.No), append(versions, p.Version)
		holds = append(holds, strings.Join(slices.Sorted(maps.Keys(p.holds)), ","))
	}
	for _, p := range a.created {
		add(p)
	}
	for _, p := range t.persons {
		if p.moved {
			add(p)
		}
	}
	if len(profiles) > 0 {
		batch.Queue(`
			INSERT INTO identity.profiles (workspace_id, id, profile_no, version, holds)
			SELECT w, p, no, v, string_to_array(h, ',')
			FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[]) AS r (w, p, no, v, h)
			ON CONFLICT (workspace_id, id) DO UPDATE SET
				version = excluded.version, holds = excluded.holds, updated_at = now()`,
			workspaces, profiles, numbers, versions, holds)
	}
}

func (t *assignTx) writeIdentifiers(batch *pgx.Batch, a *assignment) {
	var workspaces, profiles, kinds, values []string
	var hashes [][]byte
	for i := range a.attachments {
		at := &a.attachments[i]
		workspaces, profiles = append(workspaces, at.workspaceID), append(profiles, at.person.ID)
		hashes, kinds, values = append(hashes, at.identifier.Hash[:]), append(kinds, at.identifier.Type), append(values, at.identifier.Value)
	}
	if len(profiles) > 0 {
		batch.Queue(`
			INSERT INTO identity.identifiers (workspace_id, hash, type, value, profile_id)
			SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::uuid[])
			ON CONFLICT (workspace_id, hash) DO UPDATE SET profile_id = excluded.profile_id`,
			workspaces, hashes, kinds, values, profiles)
	}
	if len(a.verdicts) < len(t.events) {
		// An event that was decided before brings back no identifier that was removed since.
		workspaces, hashes = keysOf(t.rows)
		batch.Queue(`
			DELETE FROM identity.identifiers WHERE ctid = ANY (ARRAY(
				SELECT i.ctid
				FROM unnest($1::uuid[], $2::bytea[]) AS k (workspace_id, hash)
				CROSS JOIN LATERAL (
					SELECT ctid, profile_id FROM identity.identifiers
					WHERE workspace_id = k.workspace_id AND hash = k.hash
					OFFSET 0
				) AS i
				WHERE i.profile_id IS NULL))`, workspaces, hashes)
	}
}

func (t *assignTx) writeEvidence(batch *pgx.Batch, a *assignment) {
	var workspaces, profiles []string
	var from, to [][]byte
	var offsets []int64
	for i := range a.edges {
		e := &a.edges[i]
		workspaces, profiles = append(workspaces, e.person.workspaceID), append(profiles, e.person.ID)
		from, to, offsets = append(from, e.a[:]), append(to, e.b[:]), append(offsets, e.offset)
	}
	if len(profiles) > 0 {
		batch.Queue(`
			INSERT INTO identity.edges (workspace_id, profile_id, a, b, src_partition, src_offset)
			SELECT w, p, a, b, $5, o FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[], $6::bigint[]) AS r (w, p, a, b, o)`,
			workspaces, profiles, from, to, t.partition, offsets)
	}
	workspaces, profiles, offsets = nil, nil, nil
	var hashes [][]byte
	var numbers, versions []int64
	for i := range a.verdicts {
		v := &a.verdicts[i]
		workspaces, profiles = append(workspaces, v.event.WorkspaceID), append(profiles, v.person.ID)
		offsets, hashes = append(offsets, v.event.Offset), append(hashes, v.event.Hash[:])
		numbers, versions = append(numbers, v.person.No), append(versions, v.version)
	}
	if len(profiles) > 0 {
		batch.Queue(`
			INSERT INTO identity.decisions (workspace_id, src_partition, src_offset, event_hash, profile_id, profile_no, profile_version)
			SELECT w, $1, o, h, p, no, v
			FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::uuid[], $6::bigint[], $7::bigint[]) AS r (w, o, h, p, no, v)
			ON CONFLICT (src_partition, src_offset, workspace_id) DO UPDATE SET
				event_hash = excluded.event_hash, profile_id = excluded.profile_id,
				profile_no = excluded.profile_no, profile_version = excluded.profile_version`,
			t.partition, workspaces, offsets, hashes, profiles, numbers, versions)
	}
}
