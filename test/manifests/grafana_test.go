package manifests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// panel has the parts of a Grafana panel that the test needs.
type panel struct {
	ID         int    `json:"id"`
	Type       string `json:"type"`
	Title      string `json:"title"`
	Datasource struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	GridPos struct{ H, W, X, Y int } `json:"gridPos"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

func panels(t *testing.T) []panel {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(deploy, "grafana", "mcp-gateway.json"))
	require.NoError(t, err)
	var board struct {
		Panels     []panel `json:"panels"`
		Templating struct {
			List []struct {
				Name string `json:"name"`
			} `json:"list"`
		} `json:"templating"`
	}
	require.NoError(t, json.Unmarshal(content, &board))
	var names []string
	for _, variable := range board.Templating.List {
		names = append(names, variable.Name)
	}
	require.Equal(t, []string{"datasource", "job", "instance"}, names)
	return board.Panels
}

var inLegend = regexp.MustCompile(`\{\{(\w+)\}\}`)

// TestTheDashboardIsAboutMetricsThatThereAre compares each query of the dashboard with
// docs/gateway.md, as the alerts are compared. test/field has a real Prometheus run them.
func TestTheDashboardIsAboutMetricsThatThereAre(t *testing.T) {
	page := readPage(t)
	shown := map[string]bool{}
	taken := map[[2]int]int{} // cells of the grid, by the panel there
	for _, p := range panels(t) {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			require.Less(t, x, 24, p.Title)
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Zero(t, taken[[2]int{x, y}], "%s lies on another panel", p.Title)
				taken[[2]int{x, y}] = p.ID
			}
		}
		if p.Type == "row" {
			require.Empty(t, p.Targets)
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		for _, target := range p.Targets {
			expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")
			for _, metric := range page.check(t, p.Title, expr) {
				shown[metric] = true
			}
			for _, label := range inLegend.FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Regexp(t, `by \([^)]*\b`+label[1]+`\b`, expr, "%s: the legend names a label that the query drops", p.Title)
			}
		}
	}
	for metric := range page.metrics {
		if strings.HasPrefix(metric, "mcp_gateway_") && !shown[metric] {
			require.Contains(t, notShown, metric, "the dashboard does not show it")
		}
	}
}

// notShown are metrics for an alert or for somebody who looks closer.
var notShown = []string{
	"mcp_gateway_audit_syslog_up", "mcp_gateway_kms_confirmed_age_seconds",
	"mcp_gateway_usage_rows", "mcp_gateway_usage_rows_waiting", "mcp_gateway_usage_rows_refused_total", "mcp_gateway_usage_lost_total",
	"mcp_gateway_pins_refused_total", "mcp_gateway_pins_lost_total",
}
