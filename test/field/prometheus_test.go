package field

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestPrometheusRunsTheAlertsAndTheDashboard has Debian's Prometheus scrape a real gateway. It
// takes every rule, and runs each query of the dashboard.
func TestPrometheusRunsTheAlertsAndTheDashboard(t *testing.T) {
	t.Parallel()
	s := stage.New(t, harness.GatewayOptions{})
	s.Works(t, s.Client("watched", nil))
	require.Equal(t, http.StatusUnauthorized, s.Add(harness.UnissuedToken(t)).Status)

	p := startPrometheus(t, s)
	s.Eventually("Prometheus has scraped the gateway three times", func() error {
		if len(p.series(t, `count_over_time(mcp_gateway_build_info[1m]) >= 3`)) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	p.takesRules(t)
	for _, q := range queries(t) {
		values := p.series(t, q.expr)
		if strings.Contains(q.title, "Requests by") || strings.Contains(q.title, "Refused") || strings.Contains(q.title, "Changes from Vault") {
			require.NotEmpty(t, values, "%s: %s", q.title, q.expr)
		}
	}
	require.Equal(t, []string{"1"}, p.series(t, `mcp_gateway_feed_up{job="mcp-gateway"}`))
}

// prometheus is a running one.
type prometheus struct{ url string }

func startPrometheus(t *testing.T, s *stage.Stage) *prometheus {
	t.Helper()
	dir, address := t.TempDir(), harness.FreeAddress(t)
	rules, err := filepath.Abs(filepath.Join("..", "..", "bootstrap", "deploy", "prometheus", "mcp-gateway.rules.yaml"))
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 200ms, evaluation_interval: 200ms}\nrule_files: [%q]\nscrape_configs:\n- job_name: mcp-gateway\n  static_configs: [{targets: [%q]}]\n",
		rules, strings.TrimPrefix(s.Gateway.Admin, "http://"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	s.Run(process.Spec{
		Name: "prometheus", Path: "prometheus",
		Args: []string{"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address},
	})
	p := &prometheus{url: "http://" + address}
	s.Eventually("Prometheus is ready", func() error {
		response, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %d", response.StatusCode)
		}
		return nil
	})
	return p
}

// get asks the API, whose answer must be a success.
func (p *prometheus) get(t *testing.T, path string, into any) {
	t.Helper()
	response, err := http.Get(p.url + path)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.Equal(t, "success", answer.Status, "%s: %s", path, answer.Error)
	require.NoError(t, json.Unmarshal(answer.Data, into))
}

// series runs a query and returns the values of its series.
func (p *prometheus) series(t *testing.T, query string) (values []string) {
	t.Helper()
	var answer struct {
		Result []struct {
			Value [2]any // a time, and a number as text
		}
	}
	p.get(t, "/api/v1/query?query="+url.QueryEscape(query), &answer)
	for _, series := range answer.Result {
		values = append(values, fmt.Sprint(series.Value[1]))
	}
	return values
}

// takesRules makes sure that Prometheus has evaluated all alerts without an error.
func (p *prometheus) takesRules(t *testing.T) {
	t.Helper()
	var answer struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	p.get(t, "/api/v1/rules", &answer)
	require.NotEmpty(t, answer.Groups)
	for _, rule := range answer.Groups[0].Rules {
		require.NotEqual(t, "err", rule.Health, "%s: %s", rule.Name, rule.LastError)
	}
	require.Greater(t, len(answer.Groups[0].Rules), 10)
}

// query is one of the dashboard.
type query struct{ title, expr string }

// queries returns those of the dashboard, as Grafana sends them with all jobs and gateways chosen.
func queries(t *testing.T) (all []query) {
	t.Helper()
	content := read(t, "..", "..", "bootstrap", "deploy", "grafana", "mcp-gateway.json")
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(content), &board))
	chosen := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "10s")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all = append(all, query{panel.Title, chosen.Replace(target.Expr)})
		}
	}
	require.Greater(t, len(all), 30)
	return all
}
