package postgres_test

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/certs"
	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
)

// withPasswords lets the role postgres in by the unix socket, and everybody else with a password.
const withPasswords = "local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"

// TestTLS: the certificate of the server, and the name in it, are checked.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := certs.New(t)
	s := postgres.New(t, nil)
	for _, name := range []string{"127.0.0.1", "127.0.0.2"} {
		s.Certify(t, ca, name)
	}
	s.Stop(t)
	s.Configure(t, &postgres.Options{
		Settings: []string{"ssl = on", "ssl_cert_file = '127.0.0.1.pem'", "ssl_key_file = '127.0.0.1.key'"},
		HBA:      "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
	})
	s.Start(t)
	s.Exec(t, "postgres", "create role ezapi login password '"+password+"'", "create database ezapi owner ezapi")
	dsn := func(ca string) string {
		return fmt.Sprintf("postgres://ezapi:%s@127.0.0.1:%d/ezapi?sslmode=verify-full&sslrootcert=%s", password, s.Port, ca)
	}
	c := start(t, environment(t, dsn(ca.File())))
	c.lives(t)
	var encrypted int
	s.Query(t, "postgres", `select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
		where usename = 'ezapi' and not ssl`, &encrypted)
	if encrypted != 0 {
		t.Errorf("%d connections are not encrypted", encrypted)
	}

	// As the chart gives authorities of one's own to a server.
	trusting := fmt.Sprintf("postgres://ezapi:%s@127.0.0.1:%d/ezapi?sslmode=verify-full", password, s.Port)
	start(t, append(environment(t, trusting), "SSL_CERT_DIR=/etc/ssl/certs:"+filepath.Dir(ca.File()))).lives(t)

	unknown := launch(t, environment(t, dsn(certs.New(t).File())))
	unknown.isNotReady(t, "unknown authority")
	unknown.Stop(t)

	s.Stop(t)
	s.Configure(t, &postgres.Options{
		Settings: []string{"ssl_cert_file = '127.0.0.2.pem'", "ssl_key_file = '127.0.0.2.key'"},
	})
	s.Start(t)
	other := launch(t, environment(t, dsn(ca.File())))
	other.isNotReady(t, "127.0.0.2")
}

// TestUnixSocket: a server reaches PostgreSQL by a file.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, &postgres.Options{HBA: withPasswords})
	s.Exec(t, "postgres", "create role ezapi login password '"+password+"'", "create database ezapi owner ezapi")
	for _, dsn := range []string{
		fmt.Sprintf("host=%s port=%d user=ezapi password=%s dbname=ezapi", s.Dir, s.Port, password),
		fmt.Sprintf("postgres://ezapi:%s@/ezapi?host=%s&port=%d", password, s.Dir, s.Port),
	} {
		c := start(t, environment(t, dsn))
		c.lives(t)
		c.Stop(t)
	}
}

// TestLeastRights: the tables are their owner's, who alone may create any; servers run as a role
// that may read and write them. Another database has the logs, in the same way.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, &postgres.Options{HBA: withPasswords})
	s.Exec(t, "postgres", "create role ezapi_owner login password '"+password+"'",
		"create role ezapi login password '"+password+"'")
	for _, database := range []string{"catalog", "logs"} {
		s.Exec(t, "postgres", "create database "+database+" owner ezapi_owner",
			"revoke all on database "+database+" from public", "grant connect on database "+database+" to ezapi")
		s.Exec(t, database, "revoke all on schema public from public")
	}
	dsn := func(role, database string) string {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", role, password, s.Port, database)
	}
	env := environment(t, dsn("ezapi", "catalog"))
	env = append(env, "EZ_LOG_STORE="+dsn("ezapi", "logs"))

	early := process.Launch(t, "server", append([]string{"EZ_DATA_DIR=" + t.TempDir()}, env...))
	if code := early.Wait(t); code != 2 || !strings.Contains(early.Out.String(), "server -migrate ROLE") {
		t.Errorf("before the tables are there: %d\n%s", code, early.Out)
	}
	for range 2 {
		out := migrate(t, "ezapi", "EZ_PG_DSN="+dsn("ezapi_owner", "catalog"), "EZ_LOG_STORE="+dsn("ezapi_owner", "logs"))
		if strings.Count(out, "the role ezapi has the rights of a server") != 2 {
			t.Errorf("server -migrate says %s", out)
		}
	}
	c := start(t, env)
	c.lives(t)
	start(t, env).lives(t)
	for _, database := range []string{"catalog", "logs"} {
		var owned int
		s.Query(t, database, `select count(*) from pg_class where relowner = 'ezapi'::regrole`, &owned)
		if owned != 0 {
			t.Errorf("the role owns %d tables of %s", owned, database)
		}
	}
	var days int
	s.Query(t, "logs", `select count(*) from pg_inherits where inhparent = 'ezapi.access_logs'::regclass`, &days)
	if days < 4 {
		t.Errorf("%d partitions; want one for each of today, the next two and the day of old entries", days)
	}
}

// migrate runs server -migrate, and returns what it says.
func migrate(t *testing.T, role string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "server", "-migrate", role)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("server -migrate: %v\n%s", err, out)
	}
	return string(out)
}

// TestPooler: three servers start at once on an empty database, behind PgBouncer in transaction mode.
func TestPooler(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	s.Exec(t, "postgres", "create role ezapi login", "create database ezapi owner ezapi",
		"alter role ezapi set search_path = ezapi")
	pooler := postgres.NewPooler(t, s, 3)
	threeAtOnce(t, append(environment(t, fmt.Sprintf(
		"postgres://ezapi@127.0.0.1:%d/ezapi?sslmode=disable&default_query_exec_mode=exec", pooler)),
		"EZ_PG_LISTEN_DSN=none"))
}

// TestServersStartAtOnce: three servers start at once on an empty database.
func TestServersStartAtOnce(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	s.Exec(t, "postgres", "create role ezapi login", "create database ezapi owner ezapi")
	threeAtOnce(t, environment(t, fmt.Sprintf("postgres://ezapi@127.0.0.1:%d/ezapi?sslmode=disable", s.Port)))
}

func threeAtOnce(t *testing.T, env []string) {
	t.Helper()
	servers := make([]*controlPlane, 3)
	var starts sync.WaitGroup
	for i := range servers {
		starts.Go(func() { servers[i] = launch(t, env) })
	}
	starts.Wait()
	for _, c := range servers {
		c.isReady(t)
		c.lives(t)
	}
}

// TestSynchronousStandby: what was answered is on the standby, which takes the primary's place.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	primary := postgres.New(t, nil)
	standby := postgres.NewStandby(t, primary, "second")
	primary.Exec(t, "postgres", `alter system set synchronous_standby_names = 'second'`, `select pg_reload_conf()`)
	process.Eventually(t, time.Minute, "the standby is synchronous", func() bool {
		var n int
		primary.Query(t, "postgres", `select count(*) from pg_stat_replication where sync_state = 'sync'`, &n)
		return n == 1
	})
	env := environment(t, fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable",
		primary.Port, standby.Port))
	c := start(t, append(env, "EZ_LOG_SPOOL_KEEP=0")) // nothing is sent again
	c.lives(t)
	var last struct {
		ID int64 `json:"id"`
	}
	c.Call(t, "POST", "/keys", object{"name": "the last before the failover"}, http.StatusCreated, &last)
	primary.Kill()
	standby.Exec(t, "postgres", `select pg_promote()`)
	process.Eventually(t, time.Minute, "the new primary has the last key", func() bool {
		resp := c.Send(t, "GET", fmt.Sprint("/keys/", last.ID), nil)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("the last key: status %d", resp.StatusCode)
		}
		return resp.StatusCode == http.StatusOK
	})
	c.isReady(t)
	c.lives(t)
}

// TestVersions: every version of PostgreSQL that is supported.
func TestVersions(t *testing.T) {
	t.Parallel()
	if len(postgres.Versions()) == 0 {
		t.Skip("NOT TESTED ON OTHER VERSIONS OF POSTGRESQL: set EZ_TEST_PG_VERSIONS, or run test/integration.sh, which does")
	}
	for _, bin := range postgres.Versions() {
		t.Run(filepath.Base(filepath.Dir(bin)), func(t *testing.T) {
			t.Parallel()
			s := postgres.New(t, &postgres.Options{Bin: bin})
			s.Exec(t, "postgres", "create role owner login", "create database ezapi owner owner", "create role ezapi login")
			dsn := func(role string) string {
				return fmt.Sprintf("postgres://%s@127.0.0.1:%d/ezapi?sslmode=disable", role, s.Port)
			}
			c := start(t, environment(t, dsn("owner")))
			c.lives(t)
			c.Stop(t)
			migrate(t, "ezapi", "EZ_PG_DSN="+dsn("owner"))
			start(t, environment(t, dsn("ezapi"))).lives(t)
		})
	}
}

// A role whose transactions may last half a second only, which PostgreSQL 17 and later can be told, is no
// hindrance: what waits for others waits as long as with any other role.
func TestTransactionTimeout(t *testing.T) {
	t.Parallel()
	tested := false
	for _, bin := range postgres.Versions() {
		s := postgres.New(t, &postgres.Options{Bin: bin})
		var version int
		s.Query(t, "postgres", "select current_setting('server_version_num')::int / 10000", &version)
		if version < 17 {
			continue
		}
		tested = true
		s.Exec(t, "postgres", "create role ezapi login", "create database ezapi owner ezapi",
			"alter role ezapi set transaction_timeout = '500ms'")
		c := start(t, environment(t, fmt.Sprintf("postgres://ezapi@127.0.0.1:%d/ezapi?sslmode=disable", s.Port)))
		held := make(chan struct{})
		t.Cleanup(func() { <-held }) // before PostgreSQL is stopped
		go func() {
			defer close(held)
			s.Exec(t, "ezapi", "begin; select from ezapi.catalog_head for update; select pg_sleep(1.5); commit")
		}()
		process.Eventually(t, time.Minute, "the head is locked", func() bool {
			var locked bool
			s.Query(t, "ezapi", "select exists (select from pg_stat_activity where query like '%pg_sleep(1.5)%' "+
				"and wait_event = 'PgSleep')", &locked)
			return locked
		})
		c.lives(t)
		<-held
	}
	if !tested {
		t.Skip("NOT TESTED WITH TRANSACTION_TIMEOUT: EZ_TEST_PG_VERSIONS names no PostgreSQL 17 or later")
	}
}

// A host that takes connections and never answers, as behind a firewall, keeps nobody from the next one.
func TestFirstHostIsSilent(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	s.Exec(t, "postgres", "create database ezapi")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%s,127.0.0.1:%d/ezapi?sslmode=disable", port, s.Port)
	if said := migrate(t, "", "EZ_PG_DSN="+dsn); !strings.Contains(said, "applied") {
		t.Errorf("-migrate: %s", said)
	}
	start(t, append(environment(t, dsn), "EZ_LOG_DURABILITY=memory")).lives(t)
}

// The connection string that psql takes leads the server to the same schema.
func TestSchemaByOptions(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	s.Exec(t, "postgres", "create database ezapi")
	dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/ezapi?sslmode=disable&options=-csearch_path%%3Dother", s.Port)
	expect(t, "no schema of the connections' search_path exists: create one", "EZ_PG_DSN="+dsn)
	s.Exec(t, "ezapi", "create schema other")
	start(t, environment(t, dsn)).lives(t)
	var tables int
	s.Query(t, "ezapi", "select count(*) from pg_tables where schemaname = 'other' and tablename = 'models'", &tables)
	if tables != 1 {
		t.Error("the tables are not in the schema of the connection string")
	}
}

// What is wrong with a database is said with the variable that names it, and ends the program as a wrong
// setting does.
func TestDatabaseCannotBeUsed(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	for dsn, reason := range map[string]string{
		"postgres://nobody@127.0.0.1:%d/postgres?":                  `role "nobody" does not exist`,
		"postgres://postgres@127.0.0.1:%d/nowhere?":                 `database "nowhere" does not exist`,
		"postgres://postgres@127.0.0.1:%d/postgres?pool_size=3&":    `unrecognized configuration parameter "pool_size"`,
		"postgres://postgres@127.0.0.1:%d/postgres?search_path=no&": "no schema of the connections' search_path exists",
	} {
		expect(t, reason, "EZ_PG_DSN="+fmt.Sprintf(dsn, s.Port)+"sslmode=disable")
	}
}

// expect starts a server, and checks that it ends with a reason that names EZ_PG_DSN, as with a wrong setting.
func expect(t *testing.T, reason string, database string) {
	t.Helper()
	p := process.Launch(t, "server", append(environment(t, ""), database, "EZ_DATA_DIR="+t.TempDir()))
	code, out := p.Wait(t), p.Out.String()
	if code != 2 || !strings.Contains(out, "EZ_PG_DSN leads to a database that cannot be used") ||
		!strings.Contains(out, reason) {
		t.Errorf("exit code %d: %s; want 2, and %s", code, out, reason)
	}
}
