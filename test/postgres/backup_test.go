package postgres_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/pgstore"
	"github.com/ez-api/ez-api/test/postgres"
	"github.com/ez-api/ez-api/test/process"
)

// TestBackup runs the commands that docs/operations.md gives for a backup without old logs, for its
// restore, and for a copy of the database. After the restore the spool and those who send again bring
// entries that the backup has and entries that it lacks: usage counts each of them once.
func TestBackup(t *testing.T) {
	t.Parallel()
	s := postgres.New(t, nil)
	s.Exec(t, "postgres", "create role ezapi login", "create database ezapi owner ezapi",
		"create database restored owner ezapi")
	dsn := func(database string) string {
		return fmt.Sprintf("postgres://ezapi@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
	}
	data := t.TempDir()
	env := append(environment(t, dsn("ezapi")), "EZ_DATA_DIR="+data)
	c := start(t, env)

	// The oldest that is taken, and others; and one that is so old that nobody can send it again.
	now := time.Now().UTC()
	before := entriesOf(now, 7*24*time.Hour-10*time.Minute, 5*24*time.Hour, time.Hour, 0)
	c.Call(t, "POST", "/logs", before, http.StatusAccepted, nil)
	storeOld(t, dsn("ezapi"), now.AddDate(0, 0, -12))
	c.counts(t, len(before)+1)
	work := t.TempDir()
	documented(t, s, work, "pg_dump", dsn("ezapi"))

	after := entriesOf(now, 6*24*time.Hour, 0)
	c.Call(t, "POST", "/logs", after, http.StatusAccepted, nil)
	c.counts(t, len(before)+1+len(after))
	c.Stop(t)

	documented(t, s, work, "pg_restore", dsn("restored"))
	stored := func() (n int) {
		s.Query(t, "restored", "select count(*) from ezapi.access_logs", &n)
		return n
	}
	if n := stored(); n != len(before) {
		t.Errorf("the backup has %d entries; want %d, and not the old one", n, len(before))
	}
	c = start(t, append(env, "EZ_PG_DSN="+dsn("restored")))
	c.counts(t, len(before)+1+len(after)) // what came after the backup comes from the spool
	c.Call(t, "POST", "/logs", append(before, after...), http.StatusAccepted, nil)
	more := entriesOf(now, time.Minute)
	c.Call(t, "POST", "/logs", more, http.StatusAccepted, nil) // behind them
	c.counts(t, len(before)+1+len(after)+len(more))
	if n := stored(); n != len(before)+len(after)+len(more) {
		t.Errorf("%d entries are stored; want %d", n, len(before)+len(after)+len(more))
	}
	var key struct {
		ID int64 `json:"id"`
	}
	c.Call(t, "POST", "/keys", object{"name": "k"}, http.StatusCreated, &key)
	if key.ID < 1_000_000 {
		t.Errorf("the first key after a restore has the id %d, which one that is lost may have had", key.ID)
	}
	c.Stop(t)

	// A copy with an identity of its own is another catalog, with logs of its own.
	s.Exec(t, "postgres", "create database copy template restored owner ezapi")
	documented(t, s, work, `psql "\$EZ_PG_DSN" -1`, dsn("copy"))
	start(t, environment(t, dsn("copy"))).lives(t)
	var same bool
	s.Query(t, "copy", "select store::text = catalog from ezapi.catalog_head, ezapi.log_owner", &same)
	if !same {
		t.Error("the logs of the copy are those of the original")
	}
}

// entriesOf makes entries that are so old.
func entriesOf(now time.Time, ages ...time.Duration) (entries []object) {
	for _, age := range ages {
		entries = append(entries, object{"id": uuid.Must(uuid.NewV7()), "ts": now.Add(-age), "model": "m", "status": 200})
	}
	return entries
}

// storeOld stores an entry of a day as it was stored then.
func storeOld(t *testing.T, dsn string, at time.Time) {
	t.Helper()
	config, err := pgstore.PoolConfig(dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pgstore.NewSink(pool, nil).Write(t.Context(), logbuf.Batch{
		Entries: []logbuf.Entry{{ID: uuid.New(), Time: at, Model: "m", Status: 200}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// counts waits until all that is sent is stored, and checks how many requests usage has.
func (c *controlPlane) counts(t *testing.T, want int) {
	t.Helper()
	var got int
	process.Eventually(t, time.Minute, fmt.Sprintf("usage has %d requests", want), func() bool {
		time.Sleep(50 * time.Millisecond)
		var page struct {
			Data []struct {
				Requests int `json:"requests"`
			} `json:"data"`
		}
		c.Call(t, "GET", "/usage?since=30d", nil, http.StatusOK, &page)
		got = 0
		for _, row := range page.Data {
			got += row.Requests
		}
		return got >= want
	})
	if got != want {
		t.Errorf("usage has %d requests; want %d", got, want)
	}
}

// documented runs the one block of docs/operations.md that begins a line with a program.
func documented(t *testing.T, s *postgres.Server, dir, program, dsn string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?m)^```sh\n((?:[^`]*\n)?"+program+" [^`]*)^```$").FindAllStringSubmatch(string(page), -1)
	if len(found) != 1 {
		t.Fatalf("docs/operations.md has %d blocks with %s, want one", len(found), program)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", found[0][1])
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + strings.Join([]string{s.Bin(), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"EZ_PG_DSN=" + dsn}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", found[0][1], err, out)
	}
}
