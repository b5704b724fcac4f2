package manifests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

const page = "../../docs/gateway.md"

// table returns the first two cells of the rows of a table in docs/gateway.md,
// without backticks.
func table(t *testing.T, heading string) map[string][]string {
	t.Helper()
	rows := map[string][]string{}
	for _, row := range strings.Split(section(t, page, heading), "\n") {
		cells := strings.Split(strings.ReplaceAll(row, "`", ""), "|")
		if len(cells) < 4 || strings.HasPrefix(cells[1], "---") {
			continue
		}
		var labels []string
		for label := range strings.SplitSeq(strings.Trim(cells[2], " –"), ",") {
			if label = strings.TrimSpace(label); label != "" {
				labels = append(labels, label)
			}
		}
		rows[strings.TrimSpace(cells[1])] = labels
	}
	return rows
}

// TestAlertsAreAboutMetricsThatThereAre has Prometheus's own code read the
// rules, and compares every metric, label and outcome in them with
// docs/gateway.md, which a test of the gateway compares with /metrics.
func TestAlertsAreAboutMetricsThatThereAre(t *testing.T) {
	groups, problems := rulefmt.ParseFile(filepath.Join(deploy, "prometheus", "mcp-gateway.rules.yaml"), false, model.UTF8Validation)
	require.Empty(t, problems)
	page := readPage(t)
	of := section(t, "../../docs/operations.md", "## What to alert on")
	seen := 0
	for _, rule := range groups.Groups[0].Rules {
		require.Contains(t, of, "`"+rule.Alert+"`", "the page does not say what to do")
		require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"])
		seen += len(page.check(t, rule.Alert, rule.Expr))
	}
	require.Greater(t, seen, len(groups.Groups[0].Rules)-2)
}

// gatewayPage has the tables of docs/gateway.md about metrics and outcomes.
type gatewayPage struct{ metrics, reasons map[string][]string }

func readPage(t *testing.T) *gatewayPage {
	t.Helper()
	return &gatewayPage{metrics: table(t, "### For Prometheus"), reasons: table(t, "### Reasons")}
}

// check makes sure that each metric, label and outcome of an expression is on the page, and
// returns the gateway's own metrics in it.
func (p *gatewayPage) check(t *testing.T, name, expr string) (metrics []string) {
	t.Helper()
	expression, err := parser.ParseExpr(expr)
	require.NoError(t, err, name)
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok || selector.Name == "up" || strings.HasPrefix(selector.Name, "process_") {
			return nil
		}
		metric := strings.TrimSuffix(strings.TrimSuffix(selector.Name, "_bucket"), "_count")
		metrics = append(metrics, metric)
		require.Contains(t, p.metrics, metric, name)
		for _, matcher := range selector.LabelMatchers {
			if slices.Contains([]string{"__name__", "job", "instance"}, matcher.Name) {
				continue
			}
			require.Contains(t, p.metrics[metric], matcher.Name, name)
			if matcher.Name != "outcome" {
				continue
			}
			for pattern := range strings.SplitSeq(matcher.Value, "|") {
				require.True(t, pattern == "allowed" || slices.ContainsFunc(keys(p.reasons), func(reason string) bool {
					return reason == pattern || strings.HasPrefix(reason, strings.TrimSuffix(pattern, ".*")) && strings.HasSuffix(pattern, ".*")
				}), "%s: there is no outcome %q", name, pattern)
			}
		}
		return nil
	})
	return metrics
}

func keys(rows map[string][]string) []string {
	all := make([]string, 0, len(rows))
	for name := range rows {
		all = append(all, name)
	}
	return all
}
