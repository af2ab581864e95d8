package admin

import (
	"time"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// Organisation owns workspaces and the people and tokens that work in them.
type Organisation struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// Validate reports every field that cannot be stored.
func (o Organisation) Validate() error {
	var p problems
	p.checkName(o.Name)
	return p.err("invalid_organisation")
}

func errOrganisationNotFound() error {
	return errs.New(errs.NotFound, "organisation_not_found", "There is no such organisation, or this token may not see it.")
}
