package check

// The bounds of a client's fields, in number or in bytes. Every lookup's answer has all of
// them, and every gateway that knows one of the client's tokens keeps most of them.
const (
	maxNames        = 1024 // of allowed_servers, and rules of allowed_tools and denied_tools
	maxPolicies     = 64
	maxCIDRs        = 256
	maxMetadata     = 64
	maxMetadataName = 128
	maxMetadataSize = 8 << 10 // names and values together
)

// checkSize refuses fields beyond these bounds.
func (c *Client) checkSize(p *Problems) {
	for _, list := range []struct {
		field string
		have  int
		most  int
	}{
		{"allowed_servers", len(c.AllowedServers), maxNames},
		{"allowed_tools", len(c.AllowedTools), maxNames},
		{"denied_tools", len(c.DeniedTools), maxNames},
		{"policies", len(c.Policies), maxPolicies},
		{"upstream_policies", len(c.UpstreamPolicies), maxPolicies},
		{"token_bound_cidrs", len(c.TokenBoundCIDRs), maxCIDRs},
		{"metadata", len(c.Metadata), maxMetadata},
	} {
		if list.have > list.most {
			p.bound(list.field, "it has %d entries: at most %d are allowed", list.have, list.most)
		}
	}
	size := 0
	for name, value := range c.Metadata {
		size += len(name) + len(value)
		if len(name) > maxMetadataName {
			p.bound("metadata", "a name is %d bytes long: at most %d are allowed", len(name), maxMetadataName)
		}
	}
	if size > maxMetadataSize {
		p.bound("metadata", "its names and values are %d bytes long: at most %d are allowed, since every lookup answers all of them", size, maxMetadataSize)
	}
}
