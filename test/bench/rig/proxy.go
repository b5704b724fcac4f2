package main

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// serveProxy is the limit for a gateway of Go's own parts: a reverse proxy that checks
// nothing and logs nothing. Its settings are tuned. Without a pool of buffers, and with
// the default of two idle connections, it would flatter the gateway beside it.
//
// With TLS it has the default session cache and certificate cache, and speaks HTTP/1.1 on
// both sides, as the gateway does.
func serveProxy(address, upstream string, files ...string) error {
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	secure, err := tlsOf(files)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if r.Out.ContentLength > 0 {
				r.Out.Body = &counted{r.Out.Body, r.Out.ContentLength}
			}
		},
		Transport: &http.Transport{
			MaxIdleConns:        0,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
			TLSClientConfig:     secure,
		},
		BufferPool: &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}},
	}
	server := &http.Server{Addr: address, Handler: proxy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	listener, err := listenOn(address, secure)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte  { return p.pool.Get().(*[32 << 10]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[32 << 10]byte)(b)) }

// counted ends a body at its length. Without it, http.Transport reads on after the body
// while the proxy's server, which has an answer by then, closes the body. http.Transport
// takes that for an error, and breaks the answer off.
type counted struct {
	io.ReadCloser
	left int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.EOF
	}
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	return n, err
}
