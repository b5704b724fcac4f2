package page

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxText is the number of characters that a text from outside has on a page at most.
const maxText = 300

// clean is a text from outside as a page may show it: without control and format
// characters, among them those that reverse the order of a text or have no width, on one
// line, and not longer than maxText.
func clean(text string) string {
	var b strings.Builder
	count, space := 0, false
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			continue
		case count >= maxText:
			return b.String() + "…"
		}
		if space {
			b.WriteByte(' ')
			space = false
			count++
		}
		b.WriteRune(r)
		count++
	}
	return b.String()
}

// applicationName is the name of an application, which may have none that can be read.
func applicationName(name string) string {
	if name = clean(name); name == "" {
		return "(no name)"
	}
	return name
}

// destination is the place to which the browser goes after the decision.
type destination struct {
	Local bool   // a program on the person's computer
	Name  string // the host, or the scheme of the program's links
}

// destinationOf reads the URL of a redirect: https, http, or one with a private scheme.
func destinationOf(redirect string) destination {
	u, err := url.Parse(redirect)
	switch {
	case err != nil:
		return destination{Name: plain(redirect)}
	case u.Scheme != "https" && u.Scheme != "http":
		return destination{Local: true, Name: plain(u.Scheme + "://")}
	}
	return destination{Local: isLoopback(u.Hostname()), Name: plain(u.Host)}
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// plain is a host in ASCII alone: a letter of another alphabet, which may look like a
// Latin one, stands as its number.
func plain(host string) string {
	quoted := strconv.QuoteToASCII(clean(host))
	return quoted[1 : len(quoted)-1]
}

// lasting is a time span in words.
func lasting(d time.Duration) string {
	d = d.Round(time.Minute)
	var parts []string
	for _, unit := range []struct {
		span time.Duration
		word string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		n := int(d / unit.span)
		if d -= time.Duration(n) * unit.span; n == 0 {
			continue
		}
		word := strconv.Itoa(n) + " " + unit.word
		if n > 1 {
			word += "s"
		}
		parts = append(parts, word)
	}
	return strings.Join(parts, " and ")
}

// piece is a part of a sentence; Code is for text to type exactly.
type piece struct {
	Code bool
	Text string
}

// pieces are the parts of a sentence in which `backquotes` mark text to type.
func pieces(sentence string) []piece {
	var list []piece
	for i, text := range strings.Split(sentence, "`") {
		if text != "" {
			list = append(list, piece{Code: i%2 == 1, Text: text})
		}
	}
	return list
}
