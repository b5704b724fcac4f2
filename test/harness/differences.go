package harness

import (
	"os"
	"strings"
)

// Difference is a test that comes out differently on OpenBao.
type Difference struct{ Test, Reason string }

// Differences are all of them: docs/compatibility.md has the same rows. With
// TEST_DIFFERENCES=run, such tests run as well, to see whether a new OpenBao still differs.
var Differences = []Difference{}

// leaveOut skips a test that differs on OpenBao, where the tests run on it.
func (h *Harness) leaveOut() {
	h.t.Helper()
	if !h.Programs.OpenBao || os.Getenv("TEST_DIFFERENCES") == "run" {
		return
	}
	for _, difference := range Differences {
		if h.t.Name() == strings.ReplaceAll(difference.Test, " ", "_") {
			h.t.Skipf("on OpenBao: %s", difference.Reason)
		}
	}
}
