// Package faults has links between programs that can be as bad as a network: slow, cut, silent, deaf,
// or good for some bytes only.
package faults

import (
	"net"
	"sync"
	"time"
)

// A Fault is what is wrong with a [Link]. The zero value is nothing.
type Fault struct {
	Delay  time.Duration // before each piece is passed on
	Cut    bool          // connections are closed, and so are new ones
	Silent bool          // nothing passes, and nobody is told
	Deaf   bool          // what the server says does not arrive
	Limit  int           // bytes of the server's after which a connection is closed; 0: none
}

// A Link carries TCP connections to a server. It is safe for concurrent use.
type Link struct {
	// Addr is where it listens, and Target where it leads.
	Addr, Target string

	listener net.Listener
	carrying sync.WaitGroup

	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed when the fault changes
	conns   map[net.Conn]bool
	closed  bool
}

// NewLink starts a link that nothing is wrong with. Close ends it.
func NewLink(target string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{
		Addr: listener.Addr().String(), Target: target, listener: listener, changed: make(chan struct{}),
		conns: map[net.Conn]bool{},
	}
	l.carrying.Go(l.accept)
	return l, nil
}

// Set makes this the link's fault, for connections that are open and for new ones.
func (l *Link) Set(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	close(l.changed)
	l.changed = make(chan struct{})
	if f.Cut {
		l.cut()
	}
}

// Close ends all connections and takes no new ones.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.cut()
	l.mu.Unlock()
	l.Set(Fault{})
	err := l.listener.Close()
	l.carrying.Wait()
	return err
}

// cut closes what is open. The caller holds mu.
func (l *Link) cut() {
	for conn := range l.conns {
		_ = conn.Close()
	}
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.carrying.Go(func() { l.carry(near) })
	}
}

func (l *Link) carry(near net.Conn) {
	defer l.end(near)
	if !l.begin(near) {
		return
	}
	far, err := net.Dial("tcp", l.Target)
	if err != nil {
		return
	}
	defer l.end(far)
	if !l.begin(far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pass(near, far, false) })
	both.Go(func() { l.pass(far, near, true) })
	both.Wait()
}

// begin reports whether a connection may be: the link is neither closed nor cut.
func (l *Link) begin(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.fault.Cut {
		return false
	}
	l.conns[conn] = true
	return true
}

func (l *Link) end(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	_ = conn.Close()
}

// pass carries what one side says until either ends, and then ends both.
func (l *Link) pass(from, to net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	passed := 0
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		f := l.wait(answers)
		limited := answers && f.Limit > 0
		if limited {
			n = min(n, max(0, f.Limit-passed))
		}
		time.Sleep(f.Delay)
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		if passed += n; limited && passed >= f.Limit {
			return
		}
	}
}

// wait waits until something may pass, and returns what is wrong then.
func (l *Link) wait(answers bool) Fault {
	for {
		l.mu.Lock()
		f, changed, closed := l.fault, l.changed, l.closed
		l.mu.Unlock()
		if closed || !f.Silent && !(f.Deaf && answers) {
			return f
		}
		<-changed
	}
}
