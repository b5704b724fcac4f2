//go:build !unix

package direct

// canLook: nobody can see here whether a connection is idle, so all of them are http.Transport's.
const canLook = false

func (l *look) read(uintptr) { l.n = 1 }
