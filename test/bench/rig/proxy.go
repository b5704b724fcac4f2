package main

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// serveProxy is what a gateway cannot be faster than with Go's own parts: a
// reverse proxy that checks nothing and writes nothing down. It is tuned as far
// as its settings go; without a pool of buffers, and with the two idle connections
// that are the default, it would flatter whatever it is compared with.
//
// With TLS it has a session cache and a cache of its own certificate, as both have by
// default, and speaks HTTP/1.1 on either side, as the gateway does.
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

// counted knows a body's end by its length. http.Transport looks for more behind it
// while the server of the proxy, which has an answer by then, closes the body; then
// http.Transport takes that for an error, and breaks the answer off.
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
