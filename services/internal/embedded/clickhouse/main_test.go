package clickhouse_test

import (
	"os"
	"testing"

	"github.com/mekong-cdp/mekong/services/internal/embedded/clickhouse/chtest"
)

func TestMain(m *testing.M) { os.Exit(chtest.Main(m)) }
