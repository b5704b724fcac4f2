package envelope

// intern returns the string without copying it where it is one that most
// messages carry.
func intern(b []byte) string {
	if s, ok := common[string(b)]; ok {
		return s
	}
	return string(b)
}

var common = func() map[string]string {
	m := make(map[string]string)
	for _, s := range []string{
		"initialize", "ping", "server/discover", "subscriptions/listen",
		MethodToolsCall, "tools/list",
		MethodPromptsGet, "prompts/list",
		MethodResourcesRead, "resources/list", "resources/templates/list",
		"resources/subscribe", "resources/unsubscribe",
		"completion/complete", "logging/setLevel",
		"notifications/initialized", "notifications/cancelled", "notifications/progress",
		"notifications/message", "notifications/roots/list_changed",
		"2025-06-18", "2025-11-25", VersionStateless,
	} {
		m[s] = s
	}
	return m
}()
