package postgres

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// checkBundle makes sure that the programs are there and that the libraries they load have the names they load them by:
// package managers drop symbolic links.
func checkBundle(binDir string) error {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(binDir, name))
		if err != nil || info.IsDir() {
			return precondition(err, "embedded_postgres_missing", "the programs of PostgreSQL are not in embedded.postgres.bin_dir; run `make engines`, or set MEKONG_POSTGRES__URL to use a server of yours")
		}
	}
	native := filepath.Dir(binDir)
	list, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a distribution's own installation
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		return precondition(err, "embedded_postgres_broken", "the list of libraries of PostgreSQL is unreadable; remove the folder of engines and run `make engines`")
	}
	for _, link := range links {
		// The names begin with the folder "native", in which we already are.
		target := filepath.Join(filepath.Dir(native), filepath.FromSlash(link.Target))
		if _, err := os.Stat(target); err == nil {
			continue
		}
		err := os.Symlink(filepath.Base(link.Source), target)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return precondition(err, "embedded_postgres_broken", "a library link of PostgreSQL cannot be created; make the folder of engines writable or run `make engines` as its owner")
		}
	}
	return nil
}
