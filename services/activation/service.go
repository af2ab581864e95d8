package activation

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/ids"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// Scopes of the service.
const (
	scopeRead  = "destinations:read"
	scopeWrite = "destinations:write"
)

// DestinationStore keeps the definitions of one workspace at a time.
type DestinationStore interface {
	// Insert returns Conflict when the name is taken.
	Insert(ctx context.Context, d Destination) error
	// Get returns NotFound when the workspace has no such destination.
	Get(ctx context.Context, workspaceID, id string) (Destination, error)
	List(ctx context.Context, workspaceID string, limit int) ([]Destination, error)
	// Update replaces the definition whose revision is d.Revision-1; Conflict when it has another one or the name is taken.
	Update(ctx context.Context, d Destination) error
	// Delete removes the definition with everything parked for it; NotFound when there is none.
	Delete(ctx context.Context, workspaceID, id string) error
	Queue(ctx context.Context, workspaceID, id string) (Queue, error)
}

// DestinationReader reads the definitions of all workspaces, for those who send.
type DestinationReader interface {
	Fingerprint(ctx context.Context) (Fingerprint, error)
	AllDestinations(ctx context.Context) ([]Destination, Fingerprint, error)
}

// Fingerprint differs after every committed change of a definition.
type Fingerprint struct{ Count, Sum int64 }

// Queue is what waits for a destination.
type Queue struct {
	Parked, Dead   int64
	OldestParkedAt time.Time
}

// Auditor notes who changed what.
type Auditor interface {
	Record(ctx context.Context, p tenant.Principal, workspaceID, action, target string) error
}

// Service is the use cases of people: they manage destinations.
type Service struct {
	store DestinationStore
	audit Auditor
	now   func() time.Time
	// allowPrivate lets destinations name private addresses.
	allowPrivate bool
}

// maxDestinations bounds a workspace.
const maxDestinations = 500

// DestinationInput is the definition as a person gives it.
type DestinationInput struct {
	WorkspaceID, ID string
	Name            string
	Enabled         bool
	Filter          string
	Webhook         Webhook
	// Revision is the one that an update was made on.
	Revision int64
}

// CreateDestination adds a destination with a new signing secret.
func (s *Service) CreateDestination(ctx context.Context, in DestinationInput) (Destination, error) {
	p, err := tenant.Authorize(ctx, scopeWrite, in.WorkspaceID)
	if err != nil {
		return Destination{}, err
	}
	now := s.now().UTC()
	d := Destination{
		WorkspaceID: in.WorkspaceID, ID: ids.New(), Name: in.Name, Enabled: in.Enabled, Filter: in.Filter, Webhook: in.Webhook,
		Revision: 1, CreatedAt: now, UpdatedAt: now,
	}
	if err := s.check(&d); err != nil {
		return Destination{}, err
	}
	if d.SigningSecret, err = newSecret(); err != nil {
		return Destination{}, err
	}
	existing, err := s.store.List(ctx, in.WorkspaceID, maxDestinations)
	if err != nil {
		return Destination{}, err
	}
	if len(existing) >= maxDestinations {
		return Destination{}, errs.New(errs.Precondition, "too_many_destinations",
			fmt.Sprintf("A workspace has at most %d destinations; delete one first.", maxDestinations))
	}
	if slices.ContainsFunc(existing, func(other Destination) bool { return other.Name == d.Name }) {
		return Destination{}, errNameTaken()
	}
	return d, s.audited(ctx, p, d.WorkspaceID, "destination.create", d.ID, func() error { return s.store.Insert(ctx, d) })
}

// audited makes a change that is noted first: a change that nobody noted must not be, and an answer must not be lost
// after the change because the note failed.
func (s *Service) audited(ctx context.Context, p tenant.Principal, workspaceID, action, id string, change func() error) error {
	if err := s.audit.Record(ctx, p, workspaceID, action, "destination:"+id); err != nil {
		return err
	}
	return change()
}

func (s *Service) check(d *Destination) error {
	d.normalise()
	if err := d.Validate(); err != nil {
		return err
	}
	if !s.allowPrivate && privateHost(d.Webhook.URL) {
		return errPrivateAddress()
	}
	return nil
}

// secretBytes is the length of a signing secret before its encoding.
const secretBytes = 32

func newSecret() (string, error) {
	raw := make([]byte, secretBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("signing secret: %w", err)
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(raw), nil
}

// GetDestination returns one destination and its queue.
func (s *Service) GetDestination(ctx context.Context, workspaceID, id string) (Destination, Queue, error) {
	if _, err := tenant.Authorize(ctx, scopeRead, workspaceID); err != nil {
		return Destination{}, Queue{}, err
	}
	d, err := s.store.Get(ctx, workspaceID, id)
	if err != nil {
		return Destination{}, Queue{}, err
	}
	queue, err := s.store.Queue(ctx, workspaceID, id)
	return d, queue, err
}

// ListDestinations returns the destinations of a workspace by name.
func (s *Service) ListDestinations(ctx context.Context, workspaceID string) ([]Destination, error) {
	if _, err := tenant.Authorize(ctx, scopeRead, workspaceID); err != nil {
		return nil, err
	}
	return s.store.List(ctx, workspaceID, maxDestinations)
}

// UpdateDestination replaces a definition that nobody has changed since in.Revision.
func (s *Service) UpdateDestination(ctx context.Context, in DestinationInput) (Destination, error) {
	p, err := tenant.Authorize(ctx, scopeWrite, in.WorkspaceID)
	if err != nil {
		return Destination{}, err
	}
	d, err := s.store.Get(ctx, in.WorkspaceID, in.ID)
	if err != nil {
		return Destination{}, err
	}
	if d.Revision != in.Revision {
		return Destination{}, errRevision()
	}
	d.Name, d.Enabled, d.Filter, d.Webhook = in.Name, in.Enabled, in.Filter, in.Webhook
	d.Revision, d.UpdatedAt = d.Revision+1, s.now().UTC()
	if err := s.check(&d); err != nil {
		return Destination{}, err
	}
	return d, s.audited(ctx, p, d.WorkspaceID, "destination.update", d.ID, func() error { return s.store.Update(ctx, d) })
}

// DeleteDestination removes a destination and what waits for it.
func (s *Service) DeleteDestination(ctx context.Context, workspaceID, id string) error {
	p, err := tenant.Authorize(ctx, scopeWrite, workspaceID)
	if err != nil {
		return err
	}
	if _, err := s.store.Get(ctx, workspaceID, id); err != nil {
		return err
	}
	return s.audited(ctx, p, workspaceID, "destination.delete", id, func() error { return s.store.Delete(ctx, workspaceID, id) })
}
