package config

import (
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// value returns a setting's value if it is there and of that type.
func (s *section) value(name string, kind cty.Type, like string, fallback any) (cty.Value, bool) {
	s.ask(name, fallback)
	attribute, ok := s.body.Attributes[name]
	if !ok {
		return cty.NilVal, false
	}
	value, diags := attribute.Expr.Value(nil)
	if diags.HasErrors() {
		s.problems = append(s.problems, diags...)
		return cty.NilVal, false
	}
	if value.IsNull() || !value.IsWhollyKnown() || !value.Type().Equals(kind) {
		s.bad(name, "write it as %s", like)
		return cty.NilVal, false
	}
	return value, true
}

func (s *section) str(name, fallback string) string {
	value, ok := s.value(name, cty.String, `a string in quotes`, fallback)
	if !ok {
		return fallback
	}
	return value.AsString()
}

func (s *section) boolean(name string) bool { return s.booleanOr(name, false) }

func (s *section) booleanOr(name string, fallback bool) bool {
	value, ok := s.value(name, cty.Bool, "true or false", fallback)
	if !ok {
		return fallback
	}
	return value.True()
}

func (s *section) number(name string, fallback, least, most float64) float64 {
	value, ok := s.value(name, cty.Number, "a number without quotes", fallback)
	if !ok {
		return fallback
	}
	n, _ := value.AsBigFloat().Float64()
	if n < least || n > most {
		s.bad(name, "%v is out of range: %v to %v", n, least, most)
		return fallback
	}
	return n
}

func (s *section) integer(name string, fallback, least, most int) int {
	value, ok := s.value(name, cty.Number, "a whole number without quotes", fallback)
	if !ok {
		return fallback
	}
	n, accuracy := value.AsBigFloat().Int64()
	if accuracy != big.Exact || n < int64(least) || n > int64(most) {
		s.bad(name, "%s is out of range: a whole number from %d to %d", value.AsBigFloat().Text('f', -1), least, most)
		return fallback
	}
	return int(n)
}

func (s *section) duration(name string, fallback, least, most time.Duration) time.Duration {
	value, ok := s.value(name, cty.String, `a duration in quotes, for example "30s" or "10m"`, fallback)
	if !ok {
		return fallback
	}
	d, err := time.ParseDuration(value.AsString())
	if err != nil {
		s.bad(name, "%q is not a valid duration: write for example \"30s\", \"10m\" or \"1h\"", value.AsString())
		return fallback
	}
	if d < least || d > most {
		s.bad(name, "%s is out of range: %s to %s", d, least, most)
		return fallback
	}
	return d
}

func (s *section) size(name string, fallback, least, most int64) int64 {
	value, ok := s.value(name, cty.String, `a size in quotes, for example "4MiB"`, FormatSize(fallback))
	if !ok {
		return fallback
	}
	n, err := parseSize(value.AsString())
	if err != nil {
		s.bad(name, "%q is not a valid size: write for example \"512KiB\", \"4MiB\" or \"1GiB\"", value.AsString())
		return fallback
	}
	if n < least || n > most {
		s.bad(name, "%s is out of range: %s to %s", value.AsString(), FormatSize(least), FormatSize(most))
		return fallback
	}
	return n
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

func parseSize(text string) (int64, error) {
	for _, unit := range sizeUnits {
		if digits, ok := strings.CutSuffix(text, unit.suffix); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
			if err != nil || n < 0 {
				return 0, errors.New("not a number")
			}
			return n * unit.bytes, nil
		}
	}
	return 0, errors.New("no unit")
}

// FormatSize writes a size as it is written in the file.
func FormatSize(n int64) string {
	for i := len(sizeUnits) - 2; i >= 0; i-- {
		if unit := sizeUnits[i]; n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// idRange is the range of ids in a string such as "70000-70063".
func (s *section) idRange(name string) IDRange {
	text := s.str(name, "")
	if text == "" {
		return IDRange{}
	}
	from, to, whole := strings.Cut(text, "-")
	first, err := strconv.ParseUint(from, 10, 32)
	last, lastErr := strconv.ParseUint(to, 10, 32)
	// The largest number means no id at all.
	if !whole || err != nil || lastErr != nil || first == 0 || last < first || last >= 1<<32-1 || last-first >= 1<<16 {
		s.bad(name, "%q is not a range of at most 65536 uids: write the first and the last, for example \"70000-70063\"", text)
		return IDRange{}
	}
	return IDRange{First: uint32(first), Count: uint32(last - first + 1)}
}

func (s *section) choice(name, fallback string, choices ...string) string {
	text := s.str(name, fallback)
	if !slices.Contains(choices, text) {
		s.bad(name, "%q is not one of %s", text, strings.Join(choices, ", "))
	}
	return text
}

// list is a list of strings.
func (s *section) list(name string) []string { return s.listOr(name) }

// listOr is a list of strings, or the given default.
func (s *section) listOr(name string, fallback ...string) []string {
	if s.ask(name, writtenList(fallback)); !s.has(name) {
		return fallback
	}
	return s.readList(name)
}

func (s *section) readList(name string) []string {
	attribute, ok := s.body.Attributes[name]
	if !ok {
		return nil
	}
	value, diags := attribute.Expr.Value(nil)
	if diags.HasErrors() {
		s.problems = append(s.problems, diags...)
		return nil
	}
	if value.IsNull() || !value.IsWhollyKnown() || !value.Type().IsTupleType() {
		s.bad(name, "write it as a list of strings: [\"…\", \"…\"]")
		return nil
	}
	list := make([]string, 0, value.LengthInt())
	for _, element := range value.AsValueSlice() {
		if element.IsNull() || !element.Type().Equals(cty.String) {
			s.bad(name, "write it as a list of strings: [\"…\", \"…\"]")
			return nil
		}
		list = append(list, element.AsString())
	}
	return list
}

// prefixes is a list of address ranges.
func (s *section) prefixes(name string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range s.list(name) {
		prefix, ok := parsePrefix(text)
		if !ok {
			s.bad(name, "%q is not a valid address range: write it as \"10.0.0.0/8\", or a single address as \"10.1.2.3\"", text)
			continue
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes
}

// parsePrefix reads a range or a single address.
func parsePrefix(text string) (netip.Prefix, bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), !prefix.Addr().Is4In6()
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// upstreamAllow is a list of hosts and address ranges.
func upstreamAllow(s *section, name string) UpstreamAllow {
	var allow UpstreamAllow
	for _, text := range s.list(name) {
		if prefix, ok := parsePrefix(text); ok {
			allow.Prefixes = append(allow.Prefixes, prefix)
			continue
		}
		host := strings.TrimPrefix(text, "*.")
		if host == "" || strings.ContainsAny(host, "*/:@ ") || strings.HasPrefix(host, ".") || strings.HasSuffix(host, ".") {
			s.bad(name, "%q is neither a host (\"api.example.com\", \"*.example.com\") nor an address range (\"10.0.0.0/8\")", text)
			continue
		}
		allow.Hosts = append(allow.Hosts, strings.ToLower(text))
	}
	return allow
}

// url is an http or https URL without anything but a host and perhaps a path.
func (s *section) url(name, fallback string) *url.URL {
	text := s.str(name, fallback)
	if text == "" {
		return nil
	}
	u, err := parseURL(text)
	if err != nil {
		s.bad(name, "%v", err)
		return nil
	}
	return u
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not a valid URL: write it as \"https://host:port\"", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q holds more than scheme, host, port and path: leave the rest out", u.Redacted())
	}
	return u, nil
}

func (s *section) hostPort(name, fallback string) string {
	text := s.str(name, fallback)
	if err := checkHostPort(text); err != nil {
		s.bad(name, "%v", err)
	}
	return text
}

// checkHostPort checks an address to listen on.
func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not an address to listen on: write it as \"127.0.0.1:8080\", or \":8080\" for all interfaces", text)
	}
	if _, err := netip.ParseAddr(host); host != "" && host != "localhost" && err != nil {
		return fmt.Errorf("%q: %q is not an IP address: give the interface's address, not a name", text, host)
	}
	return nil
}
