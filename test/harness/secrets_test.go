package harness

import "testing"

func TestSecretsAreFoundWhereverTheyAre(t *testing.T) {
	var s secrets
	s.add("short")
	for _, text := range []string{"mcpt_0123456789", "mcpt_0123456abc", "mcpt_0123456789", "exactly12chr"} {
		s.add(text)
	}
	for content, want := range map[string]bool{
		"":                              false,
		"short":                         false,
		"mcpt_0123456":                  false,
		"mcpt_012345678":                false,
		"mcpt_0123456789":               true,
		"token=mcpt_0123456abc.":        true,
		"mcpt_mcpt_0123456abcdef":       true,
		"a line that ends exactly12chr": true,
		"exactly12ch":                   false,
	} {
		if got := s.in([]byte(content)); got != want {
			t.Errorf("%q: found %t", content, got)
		}
	}
}
