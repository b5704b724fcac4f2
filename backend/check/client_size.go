package check

// The bounds of a client's fields, in number or in bytes. Every lookup's answer has all of
// them, and every gateway that knows one of the client's tokens keeps most of them.
const (
	maxPolicies     = 64
	maxCIDRs        = 256
	maxMetadata     = 64
	maxMetadataName = 128
	maxMetadataSize = 8 << 10 // names and values together
)

// bounded is a field's number of entries.
type bounded struct {
	field      string
	have, most int
}

func (b bounded) check(p *Problems) {
	if b.have > b.most {
		p.bound(b.field, "it has %d entries: at most %d are allowed", b.have, b.most)
	}
}

// checkSize refuses fields beyond these bounds.
func (c *Client) checkSize(p *Problems) {
	c.Rights.checkSize(p)
	for _, list := range []bounded{
		{"policies", len(c.Policies), maxPolicies},
		{"upstream_policies", len(c.UpstreamPolicies), maxPolicies},
		{"token_bound_cidrs", len(c.TokenBoundCIDRs), maxCIDRs},
		{"metadata", len(c.Metadata), maxMetadata},
	} {
		list.check(p)
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
