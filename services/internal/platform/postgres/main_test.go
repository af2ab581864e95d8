package postgres_test

import (
	"os"
	"testing"

	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.StopPostgres()
	os.Exit(code)
}
