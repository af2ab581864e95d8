//go:build !webdist

package web

import "io/fs"

func files() (fs.FS, bool) { return nil, false }
