package warehouse

import (
	"os"
	"testing"

	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
