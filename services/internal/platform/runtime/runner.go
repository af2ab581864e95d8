package runtime

import "context"

// Runner is one long-lived job of a module.
type Runner struct {
	// Name is unique within the process: "identity.consumer".
	Name string
	// Run works until ctx is done, then returns nil; any other return stops the whole process. It calls started once, as
	// soon as others may rely on it.
	Run func(ctx context.Context, started func()) error
	// Ready returns nil while the runner has caught up with its work, else why not. Nil means ready once started.
	Ready func(ctx context.Context) error
}
