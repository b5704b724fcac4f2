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
		var next *Part
		for i := range parts {
			p := &parts[i]
			if !p.None() && p.Start >= at && (next == nil || p.Start < next.Start) {
				next = p
			}
		}
		if next == nil {
			return append(dst, message[at:]...)
		}
		dst = append(dst, message[at:next.Start]...)
		dst = append(dst, next.Text...)
		at = next.End
	}
}
