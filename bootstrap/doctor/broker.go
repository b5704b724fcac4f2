package doctor

import (
	"context"
	"fmt"
)

// checkPolicies looks for policies that leave no client any server.
func (e *examination) checkPolicies(ctx context.Context, servers []string) {
	why := ""
	for _, server := range servers {
		answer, err := e.evaluate(ctx, map[string]any{"policies": []string{}, "server": server})
		if err != nil || answer["allowed"] == true {
			return
		}
		why = fmt.Sprint(answer["reason"])
	}
	if e.blocked = why != ""; e.blocked {
		e.wrong(fmt.Sprintf("correct the managed policies; see each server: vault write -field=summary %s/evaluate policies= server=…", e.Mount),
			"the managed policies block every server that is registered, for every client; the last because %s", why)
	}
}

// evaluate asks the engine for a decision.
func (e *examination) evaluate(ctx context.Context, question map[string]any) (map[string]any, error) {
	answer, err := e.vault.Logical().WriteWithContext(ctx, e.Mount+"/evaluate", question)
	if err != nil || answer == nil {
		return map[string]any{}, err
	}
	return answer.Data, nil
}
