package server

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// crowd is a listener to which somebody connects all the time.
type crowd struct{ net.Listener }

func (crowd) Accept() (net.Conn, error) {
	ours, _ := net.Pipe()
	return ours, nil
}

// So many clients are connected at once and no more: the next one waits until another has gone.
func TestConnectionsAreLimited(t *testing.T) {
	l := limited(crowd{})
	var conns []net.Conn
	accept := func() net.Conn {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		return c
	}
	for range maxConnections {
		conns = append(conns, accept())
	}
	next := make(chan net.Conn)
	go func() { next <- accept() }()
	select {
	case <-next:
		t.Fatal("one client too many was let in")
	case <-time.After(100 * time.Millisecond):
	}
	conns[0].Close()
	select {
	case <-next:
	case <-time.After(10 * time.Second):
		t.Fatal("the next client was not let in when another had gone")
	}

	s := &Server{config: &Config{Addr: "127.0.0.1", Port: 0}}
	if err := s.listen(); err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	if got, want := fmt.Sprintf("%T", s.listener), fmt.Sprintf("%T", l); got != want {
		t.Errorf("the server listens by a %s, want a %s", got, want)
	}
}
