package envelope

// Part is a part of a message, and what to put in its place.
type Part struct {
	Span
	Text []byte
}

// Replace appends the message to dst, with the parts replaced and all other
// bytes kept. Parts that are [Span.None] are passed over; the others must not
// overlap.
func Replace(dst, message []byte, parts ...Part) []byte {
	at := 0
	for {
		next := -1
		for i := range parts {
			if !parts[i].None() && parts[i].Start >= at && (next < 0 || parts[i].Start < parts[next].Start) {
				next = i
			}
		}
		if next < 0 {
			return append(dst, message[at:]...)
		}
		dst = append(dst, message[at:parts[next].Start]...)
		dst = append(dst, parts[next].Text...)
		at = parts[next].End
	}
}
