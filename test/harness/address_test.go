package harness_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestAFreeAddressStaysFree: it is given to nobody else, refuses connections while
// nobody listens there, and who names it may listen, again and again.
func TestAFreeAddressStaysFree(t *testing.T) {
	address := harness.FreeAddress(t)
	for range 3 {
		var dialer net.Dialer
		if _, err := dialer.DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("where nobody listens, a connection ends with %v", err)
		}
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				err = conn.Close()
			}
			served <- err
		}()
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(<-served, conn.Close(), listener.Close()); err != nil {
			t.Error(err)
		}
	}
	// A program that does not say that it shares the port gets it only by chance.
	stranger := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var inside error
		err := raw.Control(func(socket uintptr) {
			inside = syscall.SetsockoptInt(int(socket), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
		})
		return errors.Join(err, inside)
	}}
	if listener, err := stranger.Listen(t.Context(), "tcp", address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("somebody else listens on %v: %v", listener, err)
	}
	if harness.FreeAddress(t) == address {
		t.Error("it was given twice")
	}
}
