package identity

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// assignTx is one transaction of PostgresStore.Assign: lock identifiers by hash, then profiles by id, read again what the
// locks protect, decide, write.
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
		SELECT i.workspace_id::text, i.hash, coalesce(i.profile_id::text, '')
		FROM unnest($1::uuid[], $2::bytea[]) AS k (workspace_id, hash)
		JOIN identity.identifiers i USING (workspace_id, hash)
		ORDER BY i.hash, i.workspace_id
		FOR UPDATE OF i`, workspaces, hashes)
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
	var workspaces, profiles []string
	for id, p := range t.persons {
		workspaces, profiles = append(workspaces, p.workspaceID), append(profiles, id)
	}
	rows, err := t.tx.Query(ctx, `
		SELECT p.id::text, p.profile_no, p.version
		FROM unnest($1::uuid[], $2::uuid[]) AS k (workspace_id, id)
		JOIN identity.profiles p USING (workspace_id, id)
		ORDER BY p.id
		FOR UPDATE OF p`, workspaces, profiles)
	if err != nil {
		return err
	}
	var p Profile
	if _, err := pgx.ForEachRow(rows, []any{&p.ID, &p.No, &p.Version}, func() error {
		t.persons[p.ID].Profile = p
		return nil
	}); err != nil {
		return err
	}
	rows, err = t.tx.Query(ctx, `
		SELECT DISTINCT i.profile_id::text, i.type
		FROM unnest($1::uuid[], $2::uuid[]) AS k (workspace_id, profile_id)
		JOIN identity.identifiers i USING (workspace_id, profile_id)
		WHERE i.type = ANY ($3)`, workspaces, profiles, uniqueTypes())
	if err != nil {
		return err
	}
	var id, kind string
	_, err = pgx.ForEachRow(rows, []any{&id, &kind}, func() error {
		t.persons[id].holds[kind] = true
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
	var numbers, versions []int64
	for _, p := range a.created {
		workspaces, profiles = append(workspaces, p.workspaceID), append(profiles, p.ID)
		numbers, versions = append(numbers, p.No), append(versions, p.Version)
	}
	if len(profiles) > 0 {
		batch.Queue(`
			INSERT INTO identity.profiles (workspace_id, id, profile_no, version)
			SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])`, workspaces, profiles, numbers, versions)
	}
	workspaces, profiles, versions = nil, nil, nil
	for id, p := range t.persons {
		if p.moved {
			workspaces, profiles, versions = append(workspaces, p.workspaceID), append(profiles, id), append(versions, p.Version)
		}
	}
	if len(profiles) > 0 {
		batch.Queue(`
			UPDATE identity.profiles p SET version = k.version, updated_at = now()
			FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS k (workspace_id, id, version)
			WHERE p.workspace_id = k.workspace_id AND p.id = k.id`, workspaces, profiles, versions)
	}
}

func (t *assignTx) writeIdentifiers(batch *pgx.Batch, a *assignment) {
	var workspaces, profiles []string
	var hashes [][]byte
	for i := range a.attachments {
		at := &a.attachments[i]
		workspaces, profiles = append(workspaces, at.workspaceID), append(profiles, at.person.ID)
		hashes = append(hashes, at.identifier.Hash[:])
	}
	if len(profiles) > 0 {
		batch.Queue(`
			UPDATE identity.identifiers i SET profile_id = k.profile_id
			FROM unnest($1::uuid[], $2::bytea[], $3::uuid[]) AS k (workspace_id, hash, profile_id)
			WHERE i.workspace_id = k.workspace_id AND i.hash = k.hash`, workspaces, hashes, profiles)
	}
	if len(a.verdicts) < len(t.events) {
		// An event that was decided before brings back no identifier that was removed since.
		workspaces, hashes = keysOf(t.rows)
		batch.Queue(`
			DELETE FROM identity.identifiers i
			USING unnest($1::uuid[], $2::bytea[]) AS k (workspace_id, hash)
			WHERE i.workspace_id = k.workspace_id AND i.hash = k.hash AND i.profile_id IS NULL`, workspaces, hashes)
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
