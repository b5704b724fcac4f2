package stage

import (
	"slices"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// NamesOn are the names in the lists of a session, sorted; of every server.
func NamesOn(t *testing.T, session *mcp.ClientSession) (prompts, resources, templates []string) {
	t.Helper()
	for prompt, err := range session.Prompts(t.Context(), nil) {
		require.NoError(t, err)
		prompts = append(prompts, prompt.Name)
	}
	for resource, err := range session.Resources(t.Context(), nil) {
		require.NoError(t, err)
		resources = append(resources, resource.URI)
	}
	for template, err := range session.ResourceTemplates(t.Context(), nil) {
		require.NoError(t, err)
		templates = append(templates, template.URITemplate)
	}
	slices.Sort(prompts)
	slices.Sort(resources)
	slices.Sort(templates)
	return prompts, resources, templates
}
