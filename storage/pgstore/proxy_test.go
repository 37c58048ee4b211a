package pgstore_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A cut is how a connection ends at a commit.
type cut int

const (
	cutAnswer cut = iota // the server has committed, and its answer is lost
	cutSent              // the connection is gone before anybody knows
	cutUnsent            // the server never gets it
	cuts                 // how many there are that end at once

	// These leave both sides waiting, as a network does that goes away.
	freezeAnswer
	freezeUnsent

	passOn // nothing
)

// proxy is a TCP proxy in front of PostgreSQL that cuts connections at commits.
type proxy struct {
	listener        net.Listener
	network, server string
	close           func() // ends what is frozen, too
	closed          chan struct{}
	running         sync.WaitGroup

	mu   sync.Mutex
	plan []cut // of the next commits

	done atomic.Int64 // cuts
}

// newProxy starts a proxy and leads a copy of the configuration through it.
func newProxy(tb testing.TB, cfg *pgxpool.Config) (*proxy, *pgxpool.Config) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{listener: listener, closed: make(chan struct{})}
	p.network, p.server = pgconn.NetworkAddress(cfg.ConnConfig.Host, cfg.ConnConfig.Port)
	p.running.Go(p.accept)
	p.close = sync.OnceFunc(func() {
		close(p.closed)
		listener.Close()
		p.running.Wait()
	})
	tb.Cleanup(p.close)
	cfg = cfg.Copy()
	cfg.ConnConfig.Host, cfg.ConnConfig.Port = "127.0.0.1", uint16(listener.Addr().(*net.TCPAddr).Port)
	cfg.ConnConfig.TLSConfig, cfg.ConnConfig.Fallbacks = nil, nil // it has to read what passes
	return p, cfg
}

// cutNext cuts the next commits, one as each of these.
func (p *proxy) cutNext(plan ...cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = append(p.plan, plan...)
}

// cutAll cuts n of the next commits, in every way and in every order: mostly
// every other one, so that there is progress, and now and then two in a row.
func (p *proxy) cutAll(n int) {
	for i := range n {
		p.cutNext(cut(i) % cuts)
		if i%4 != 3 {
			p.cutNext(passOn)
		}
	}
}

// next returns what becomes of a commit; false when it passes.
func (p *proxy) next() (cut, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.plan) == 0 {
		return 0, false
	}
	c := p.plan[0]
	p.plan = p.plan[1:]
	if c == passOn {
		return 0, false
	}
	p.done.Add(1)
	return c, true
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// serve passes on what client and server say, until one of them or the plan
// ends it.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial(p.network, p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var lost atomic.Bool // the server's answer
	var frozen atomic.Bool
	end := make(chan struct{}, 2)
	p.running.Go(func() {
		defer func() { end <- struct{}{} }()
		p.pass(client, server, &lost, &frozen)
	})
	p.running.Go(func() {
		defer func() { end <- struct{}{} }()
		p.answer(server, client, &lost, &frozen)
	})
	select {
	case <-end:
	case <-p.closed:
	}
}

// pass carries what the client says, up to a commit that is cut.
func (p *proxy) pass(client, server net.Conn, lost, frozen *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			p.linger(frozen)
			return
		}
		data := buf[:n]
		if !bytes.HasSuffix(data, []byte("commit\x00")) { // a message of its own
			if _, err := server.Write(data); err != nil {
				return
			}
			continue
		}
		how, ok := p.next()
		switch {
		case !ok:
		case how == cutUnsent:
			return
		case how == freezeUnsent:
			frozen.Store(true)
			p.linger(frozen)
			return
		default:
			lost.Store(true) // also where it is faster than the cut
			frozen.Store(how == freezeAnswer)
		}
		if _, err := server.Write(data); err != nil || ok && how == cutSent {
			return
		}
	}
}

// answer carries what the server says, but for an answer that is lost.
func (p *proxy) answer(server, client net.Conn, lost, frozen *atomic.Bool) {
	ready := []byte{'Z', 0, 0, 0, 5, 'I'}
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			p.linger(frozen)
			return
		}
		if lost.Load() {
			if bytes.HasSuffix(buf[:n], ready) {
				p.linger(frozen)
				return
			}
			continue
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// linger keeps a frozen connection open until the test ends.
func (p *proxy) linger(frozen *atomic.Bool) {
	if frozen.Load() {
		<-p.closed
	}
}
