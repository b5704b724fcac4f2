package harness

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
)

// FreeAddress returns an address on the loopback with a port that the kernel chose. It is
// for a program that needs its port as a setting, and may start there more than once. It
// never returns an address twice.
//
// The port stays reserved while the test's process lives: a socket is bound to it, and
// never listens. So the kernel does not give it to another process, to listen or to
// connect from. A program that names it can still listen there, since it sets
// SO_REUSEADDR as well, as servers do on Linux.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := takePort()
	if err != nil {
		t.Fatal(fmt.Errorf("no port for a program: %w", err))
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
}

func takePort() (int, error) {
	// Programs that start meanwhile must not inherit the socket.
	syscall.ForkLock.RLock()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
	)
	if err != nil {
		return 0, errors.Join(err, syscall.Close(socket))
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		return 0, errors.Join(err, syscall.Close(socket))
	}
	return name.(*syscall.SockaddrInet4).Port, nil
}
