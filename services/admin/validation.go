package admin

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const maxNameLength = 100

// problems collects everything that is wrong with an input, so that its sender can mend it in one go. It names fields,
// never their values.
type problems []string

func (p *problems) add(field, problem string) {
	*p = append(*p, field+": "+problem)
}

// err returns nil, or one Invalid error whose message names every field at fault.
func (p problems) err(code string) error {
	if len(p) == 0 {
		return nil
	}
	return errs.New(errs.Invalid, code, strings.Join(p, "; "))
}

// checkName looks at a name that people read.
func (p *problems) checkName(name string) {
	switch {
	case name == "":
		p.add("name", "must not be empty")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		p.add("name", "must be plain text without control characters")
	case utf8.RuneCountInString(name) > maxNameLength:
		p.add("name", "must have at most 100 characters")
	}
}
