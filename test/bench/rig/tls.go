package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

// tlsOf reads the files for TLS as a server and as a client. Without a name, the process
// does not use TLS.
func tlsOf(files []string) (*tls.Config, error) {
	if len(files) == 0 {
		return nil, nil
	}
	authority, err := os.ReadFile(files[0] + "-ca.pem")
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(files[0]+"-cert.pem", files[0]+"-key.pem")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s-ca.pem has no certificate", files[0])
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// listenOn listens without TLS if secure is nil.
func listenOn(address string, secure *tls.Config) (net.Listener, error) {
	if secure == nil {
		return net.Listen("tcp", address)
	}
	return tls.Listen("tcp", address, secure)
}
