package postgres_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
)

// TestLogsOfAnotherCatalog: a server whose EZ_LOG_STORE has the logs of another catalog does not start. Where it finds
// out later, because the store could not be reached, it stores nothing there, and says so.
func TestLogsOfAnotherCatalog(t *testing.T) {
	t.Parallel()
	catalogs, logs := postgres.New(t, nil), postgres.New(t, nil)
	catalogs.Exec(t, "postgres", "create database prod", "create database staging")
	dsn := func(database string) string {
		return strings.Replace(catalogs.DSN(), "/postgres?", "/"+database+"?", 1)
	}
	prod := append(environment(t, dsn("prod")), "EZ_LOG_STORE="+logs.DSN())
	c := start(t, prod)
	c.lives(t)
	c.Stop(t)
	count := func() (n int) {
		logs.Query(t, "postgres", "select count(*) from ezapi.access_logs", &n)
		return n
	}
	stored := count()

	staging := environment(t, dsn("staging"))
	refused := func(store string) {
		t.Helper()
		p := process.Launch(t, "server", append([]string{"EZ_DATA_DIR=" + t.TempDir(), "EZ_LOG_STORE=" + store}, staging...))
		if code := p.Wait(t); code != 2 || !strings.Contains(p.Out.String(), "EZ_LOG_STORE cannot be used: "+
			"the log store belongs to another catalog") || strings.Contains(p.Out.String(), "paused") {
			t.Errorf("exit code %d\n%s", code, p.Out)
		}
	}
	refused(logs.DSN())
	catalogs.Exec(t, "postgres", "create database whole")
	start(t, environment(t, dsn("whole"))).lives(t)
	refused(dsn("whole")) // the database of a catalog that keeps its logs there

	logs.Stop(t)
	late := start(t, append(staging, "EZ_LOG_STORE="+logs.DSN()))
	late.Call(t, "POST", "/logs", []object{
		{"id": uuid.NewString(), "ts": time.Now().UTC(), "status": 200, "model": "m"},
	}, http.StatusAccepted, nil)
	logs.Start(t)
	process.Eventually(t, time.Minute, "readiness says that somebody has to mend it", func() bool {
		_, body := late.readiness(t)
		return strings.Contains(body, "logs are not stored until somebody mends the log store")
	})
	if !strings.Contains(late.Out.String(), "the log store belongs to another catalog") {
		t.Errorf("the log does not say why:\n%s", late.Out)
	}
	if n := count(); n != stored {
		t.Errorf("%d entries, want the %d that were there", n, stored)
	}
	start(t, prod).lives(t)
}
