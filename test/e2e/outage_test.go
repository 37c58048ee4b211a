package e2e_test

import (
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// An outage is a database that can go away: a proxy before it.
type outage struct {
	dsn string // through the proxy

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func newOutage(t *testing.T, dsn string) *outage {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal("the connection string cannot be read")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	through := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	o := &outage{dsn: through.String(), conns: map[net.Conn]bool{}}
	network, addr := "tcp", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if strings.HasPrefix(config.Host, "/") {
		network, addr = "unix", config.Host+"/.s.PGSQL."+strconv.Itoa(int(config.Port))
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go o.serve(conn, network, addr)
		}
	}()
	return o
}

func (o *outage) serve(client net.Conn, network, addr string) {
	defer client.Close()
	server, err := net.Dial(network, addr)
	if err != nil {
		return
	}
	defer server.Close()
	o.mu.Lock()
	if o.down {
		o.mu.Unlock()
		return
	}
	o.conns[client], o.conns[server] = true, true
	o.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, client)
	delete(o.conns, server)
}

// begin ends every connection, and lets no other be made.
func (o *outage) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = true
	for conn := range o.conns {
		_ = conn.Close()
	}
}

func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = false
}
