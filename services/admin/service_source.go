package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
)

// SourceWithKeys is a source and the write keys that are accepted for it.
type SourceWithKeys struct {
	Source
	WriteKeys []WriteKey
}

// CreateSourceInput describes a new source.
type CreateSourceInput struct {
	WorkspaceID, Name, Type string
	Origins                 []string
}

// CreateSource adds a source, enabled, with its first write key.
func (s *Service) CreateSource(ctx context.Context, in CreateSourceInput) (SourceWithKeys, error) {
	w, access, err := s.enter(ctx, scopeSourcesWrite, in.WorkspaceID)
	if err != nil {
		return SourceWithKeys{}, err
	}
	source := Source{
		WorkspaceID: w.ID, ID: ids.New(), Name: strings.TrimSpace(in.Name), Type: in.Type, Enabled: true,
		Origins: normalizeOrigins(in.Origins),
	}
	if err := source.Validate(); err != nil {
		return SourceWithKeys{}, err
	}
	return change(ctx, s, access, func(ctx context.Context, tx Tx) (SourceWithKeys, error) {
		existing, err := tx.Sources.List(ctx, w.ID, s.cfg.MaxSources)
		if err != nil {
			return SourceWithKeys{}, err
		}
		if len(existing) >= s.cfg.MaxSources {
			return SourceWithKeys{}, errLimitReached("sources", s.cfg.MaxSources)
		}
		return s.insertSource(ctx, tx, w, source, newWriteKey())
	})
}

func (s *Service) insertSource(ctx context.Context, tx Tx, w Workspace, source Source, key string) (SourceWithKeys, error) {
	source.CreatedAt = s.now()
	source.Revision = nextRevision(0, source.CreatedAt)
	k := WriteKey{
		WorkspaceID: w.ID, SourceID: source.ID, Key: key, CreatedAt: source.CreatedAt, Revision: source.Revision,
	}
	out := SourceWithKeys{source, []WriteKey{k}}
	if err := tx.Sources.Insert(ctx, source); err != nil {
		return out, err
	}
	if err := tx.WriteKeys.Insert(ctx, k); err != nil {
		return out, err
	}
	return out, s.record(ctx, tx, w.did("source.create", "source", source.ID), Change{Source: &source}, Change{WriteKey: &k})
}

// ListSources returns the sources of a workspace by name, with their keys.
func (s *Service) ListSources(ctx context.Context, workspaceID string) ([]SourceWithKeys, error) {
	_, access, err := s.enter(ctx, scopeSourcesRead, workspaceID)
	if err != nil {
		return nil, err
	}
	return view(ctx, s, access, func(ctx context.Context, tx Tx) ([]SourceWithKeys, error) {
		sources, err := tx.Sources.List(ctx, workspaceID, s.cfg.MaxSources)
		if err != nil {
			return nil, err
		}
		keys, err := tx.WriteKeys.List(ctx, workspaceID, "", s.now())
		if err != nil {
			return nil, err
		}
		bySource := map[string][]WriteKey{}
		for _, k := range keys {
			bySource[k.SourceID] = append(bySource[k.SourceID], k)
		}
		out := make([]SourceWithKeys, len(sources))
		for i, source := range sources {
			out[i] = SourceWithKeys{source, bySource[source.ID]}
		}
		return out, nil
	})
}

// GetSource returns one source with its keys.
func (s *Service) GetSource(ctx context.Context, workspaceID, sourceID string) (SourceWithKeys, error) {
	_, access, err := s.enter(ctx, scopeSourcesRead, workspaceID)
	if err != nil {
		return SourceWithKeys{}, err
	}
	return view(ctx, s, access, func(ctx context.Context, tx Tx) (SourceWithKeys, error) {
		source, err := tx.Sources.Get(ctx, workspaceID, sourceID)
		if err != nil {
			return SourceWithKeys{}, err
		}
		return s.withKeys(ctx, tx, source)
	})
}

func (s *Service) withKeys(ctx context.Context, tx Tx, source Source) (SourceWithKeys, error) {
	keys, err := tx.WriteKeys.List(ctx, source.WorkspaceID, source.ID, s.now())
	return SourceWithKeys{source, keys}, err
}

// UpdateSourceInput changes what is not nil.
type UpdateSourceInput struct {
	WorkspaceID, SourceID string
	Name                  *string
	Enabled               *bool
	// Origins replaces the list.
	Origins *[]string
}

// UpdateSource changes name, enabled flag or origins.
func (s *Service) UpdateSource(ctx context.Context, in UpdateSourceInput) (SourceWithKeys, error) {
	w, access, err := s.enter(ctx, scopeSourcesWrite, in.WorkspaceID)
	if err != nil {
		return SourceWithKeys{}, err
	}
	return change(ctx, s, access, func(ctx context.Context, tx Tx) (SourceWithKeys, error) {
		old, err := tx.Sources.Get(ctx, w.ID, in.SourceID)
		if err != nil {
			return SourceWithKeys{}, err
		}
		source := old
		set(&source.Name, in.Name)
		source.Name = strings.TrimSpace(source.Name)
		set(&source.Enabled, in.Enabled)
		if in.Origins != nil {
			source.Origins = normalizeOrigins(*in.Origins)
		}
		if err := source.Validate(); err != nil {
			return SourceWithKeys{}, err
		}
		if source.Name == old.Name && source.Enabled == old.Enabled && slices.Equal(source.Origins, old.Origins) {
			return s.withKeys(ctx, tx, source)
		}
		source.Revision = nextRevision(old.Revision, s.now())
		if err := tx.Sources.Update(ctx, source); err != nil {
			return SourceWithKeys{}, err
		}
		if err := s.record(ctx, tx, w.did("source.update", "source", source.ID), Change{Source: &source}); err != nil {
			return SourceWithKeys{}, err
		}
		return s.withKeys(ctx, tx, source)
	})
}

// DeleteSource removes a source and stops its keys.
func (s *Service) DeleteSource(ctx context.Context, workspaceID, sourceID string) error {
	w, access, err := s.enter(ctx, scopeSourcesWrite, workspaceID)
	if err != nil {
		return err
	}
	return s.store.Change(ctx, access, func(ctx context.Context, tx Tx) error {
		source, err := tx.Sources.Get(ctx, w.ID, sourceID)
		if err != nil {
			return err
		}
		now := s.now()
		source.DeletedAt = now
		source.Revision = nextRevision(source.Revision, now)
		changes := []Change{{Source: &source}}
		keys, err := tx.WriteKeys.List(ctx, w.ID, sourceID, now)
		if err != nil {
			return err
		}
		for _, k := range keys {
			k.revoke(now)
			if err := tx.WriteKeys.Update(ctx, k); err != nil {
				return err
			}
			changes = append(changes, Change{WriteKey: &k})
		}
		if err := tx.Sources.Update(ctx, source); err != nil {
			return err
		}
		return s.record(ctx, tx, w.did("source.delete", "source", sourceID), changes...)
	})
}

// CreateWriteKeyInput asks for a further key of a source.
type CreateWriteKeyInput struct {
	WorkspaceID, SourceID string
	// RotateAfter ends the older keys after that time; nil leaves them.
	RotateAfter *time.Duration
}

// CreateWriteKey adds a key; while a rotation lasts, old and new keys both work.
func (s *Service) CreateWriteKey(ctx context.Context, in CreateWriteKeyInput) (WriteKey, error) {
	w, access, err := s.enter(ctx, scopeSourcesWrite, in.WorkspaceID)
	if err != nil {
		return WriteKey{}, err
	}
	if err := validateRotation(in.RotateAfter); err != nil {
		return WriteKey{}, err
	}
	return change(ctx, s, access, func(ctx context.Context, tx Tx) (WriteKey, error) {
		source, err := tx.Sources.Get(ctx, w.ID, in.SourceID)
		if err != nil {
			return WriteKey{}, err
		}
		now := s.now()
		older, err := tx.WriteKeys.List(ctx, w.ID, source.ID, now)
		if err != nil {
			return WriteKey{}, err
		}
		if len(older) >= s.cfg.MaxWriteKeys {
			return WriteKey{}, errLimitReached("write keys of this source", s.cfg.MaxWriteKeys)
		}
		k := WriteKey{WorkspaceID: w.ID, SourceID: source.ID, Key: newWriteKey(), CreatedAt: now, Revision: nextRevision(0, now)}
		if err := tx.WriteKeys.Insert(ctx, k); err != nil {
			return WriteKey{}, err
		}
		action, changes := "write_key.create", []Change{{WriteKey: &k}}
		if in.RotateAfter != nil {
			action = "write_key.rotate"
			ended, err := endKeys(ctx, tx, older, now.Add(*in.RotateAfter), now)
			if err != nil {
				return WriteKey{}, err
			}
			changes = append(changes, ended...)
		}
		return k, s.record(ctx, tx, w.did(action, "write_key", k.Key), changes...)
	})
}

func endKeys(ctx context.Context, tx Tx, keys []WriteKey, end, now time.Time) ([]Change, error) {
	var changes []Change
	for _, k := range keys {
		if !k.expireBy(end, now) {
			continue
		}
		if err := tx.WriteKeys.Update(ctx, k); err != nil {
			return nil, err
		}
		changes = append(changes, Change{WriteKey: &k})
	}
	return changes, nil
}

// RevokeWriteKey stops a key at once.
func (s *Service) RevokeWriteKey(ctx context.Context, workspaceID, sourceID, key string) error {
	w, access, err := s.enter(ctx, scopeSourcesWrite, workspaceID)
	if err != nil {
		return err
	}
	return s.store.Change(ctx, access, func(ctx context.Context, tx Tx) error {
		k, source, err := tx.WriteKeys.Resolve(ctx, key)
		if err != nil {
			return err
		}
		if source.ID != sourceID || !k.revoke(s.now()) {
			return errWriteKeyNotFound()
		}
		if err := tx.WriteKeys.Update(ctx, k); err != nil {
			return err
		}
		return s.record(ctx, tx, w.did("write_key.revoke", "write_key", k.Key), Change{WriteKey: &k})
	})
}

// ResolveWriteKey tells the newest state of a key and its source, ended ones included; for services only.
func (s *Service) ResolveWriteKey(ctx context.Context, key string) (WriteKey, Source, error) {
	if err := requireService(ctx); err != nil {
		return WriteKey{}, Source{}, err
	}
	type pair struct {
		key    WriteKey
		source Source
	}
	found, err := view(ctx, s, Access{System: true}, func(ctx context.Context, tx Tx) (pair, error) {
		k, source, err := tx.WriteKeys.Resolve(ctx, key)
		return pair{k, source}, err
	})
	return found.key, found.source, err
}
