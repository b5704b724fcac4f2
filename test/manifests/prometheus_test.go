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
	metrics, reasons := table(t, "### For Prometheus"), table(t, "### Reasons")
	of := section(t, "../../docs/operations.md", "## What to alert on")
	seen := 0
	for _, rule := range groups.Groups[0].Rules {
		require.Contains(t, of, "`"+rule.Alert+"`", "the page does not say what to do")
		require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"])
		expression, err := parser.ParseExpr(rule.Expr)
		require.NoError(t, err)
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok || selector.Name == "up" || strings.HasPrefix(selector.Name, "process_") {
				return nil
			}
			seen++
			name := strings.TrimSuffix(strings.TrimSuffix(selector.Name, "_bucket"), "_count")
			require.Contains(t, metrics, name, rule.Alert)
			for _, matcher := range selector.LabelMatchers {
				if matcher.Name == "__name__" {
					continue
				}
				require.Contains(t, metrics[name], matcher.Name, rule.Alert)
				if matcher.Name != "outcome" {
					continue
				}
				for pattern := range strings.SplitSeq(matcher.Value, "|") {
					require.True(t, slices.ContainsFunc(keys(reasons), func(reason string) bool {
						return reason == pattern || strings.HasPrefix(reason, strings.TrimSuffix(pattern, ".*")) && strings.HasSuffix(pattern, ".*")
					}), "%s: there is no outcome %q", rule.Alert, pattern)
				}
			}
			return nil
		})
	}
	require.Greater(t, seen, len(groups.Groups[0].Rules)-2)
}

func keys(rows map[string][]string) []string {
	all := make([]string, 0, len(rows))
	for name := range rows {
		all = append(all, name)
	}
	return all
}
