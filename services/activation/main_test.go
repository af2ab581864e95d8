package activation

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/mekong-cdp/mekong/services/internal/platform/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.StopPostgres()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read.func1")); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}
