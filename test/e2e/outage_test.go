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

// An outage is a service that can go away: a proxy before it.
type outage struct {
	addr string // of the proxy

	ice sync.RWMutex // held while nothing passes

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

// cold is a connection through which nothing comes while the service is frozen.
type cold struct {
	net.Conn
	ice *sync.RWMutex
}

func (c cold) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.ice.RLock()
	defer c.ice.RUnlock()
	return n, err
}

// freeze leaves every connection as it is, and takes new ones, but answers nothing
// from then on, like a machine that is halted.
func (o *outage) freeze() { o.ice.Lock() }

func (o *outage) thaw() { o.ice.Unlock() }

// newOutage returns a proxy to an address.
func newOutage(t *testing.T, network, addr string) *outage {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	o := &outage{addr: listener.Addr().String(), conns: map[net.Conn]bool{}}
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

// newDatabaseOutage returns a proxy to a database, and the connection string through it.
func newDatabaseOutage(t *testing.T, dsn string) (o *outage, through string) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal("the connection string cannot be read")
	}
	network, addr := "tcp", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if strings.HasPrefix(config.Host, "/") {
		network, addr = "unix", config.Host+"/.s.PGSQL."+strconv.Itoa(int(config.Port))
	}
	o = newOutage(t, network, addr)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: o.addr,
		Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	return o, u.String()
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
			_, _ = io.Copy(pair[0], cold{pair[1], &o.ice})
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
