package conformance

import (
	"io"
	"net"
	"sync"
)

// proxy is between a reader and Redis, so that connections can be cut.
type proxy struct {
	target string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

func newProxy(target string) (*proxy, error) {
	p := &proxy{target: target, conns: map[net.Conn]bool{}}
	return p, p.listen("127.0.0.1:0")
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	return nil
}

func (p *proxy) carry(near net.Conn) {
	defer near.Close() //nolint:errcheck // it is over
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[near], p.conns[far] = true, true
	p.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() { _, _ = io.Copy(way[0], way[1]); done <- struct{}{} }()
	}
	<-done
	_ = far.Close()
	_ = near.Close()
	<-done
	p.mu.Lock()
	delete(p.conns, near)
	delete(p.conns, far)
	p.mu.Unlock()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// stop also refuses new ones, until what it returns is called.
func (p *proxy) stop() (start func() error) {
	addr := p.addr()
	_ = p.listener.Close()
	p.cut()
	return func() error { return p.listen(addr) }
}

func (p *proxy) close() { p.stop() }
