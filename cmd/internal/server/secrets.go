package server

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
)

// newToken makes a token or password that nobody can guess, of letters and digits.
func newToken(prefix string) string { return prefix + strings.ToLower(rand.Text()+rand.Text()) }

// newKey makes a key of the form that EZ_DB_KEYS and EZ_SYNC_KEYS take.
func newKey(id string) string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: see crypto/rand.Read
	return id + ":" + base64.StdEncoding.EncodeToString(key)
}

// environment returns the secrets of a server on PostgreSQL and Redis, made anew, in the form that
// docker compose reads from a file called .env.
func environment() string {
	return fmt.Sprintf(`# Secrets of EZ-API, made by server -init-env. Keep a copy where you keep secrets:
# without EZ_DB_KEYS nobody can read the provider secrets in the database.
EZ_ADMIN_TOKEN=%s
EZ_VIEWER_TOKEN=%s
EZ_BALANCER_TOKEN=%s
EZ_DB_KEYS=%s
EZ_SYNC_KEYS=%s
POSTGRES_PASSWORD=%s
REDIS_PASSWORD=%s
`, newToken("ez-admin-"), newToken("ez-viewer-"), newToken("ez-balancer-"), newKey("k1"), newKey("s1"),
		newToken(""), newToken(""))
}

// initEnv writes such secrets to stdout, or to a file that must not exist yet and that only its owner
// can read.
func initEnv(files []string, stdout io.Writer) error {
	switch len(files) {
	case 0:
		_, err := io.WriteString(stdout, environment())
		return err
	case 1:
	default:
		return fmt.Errorf("-init-env takes the name of one file, or none to write to standard output")
	}
	file, err := os.OpenFile(files[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if os.IsExist(err) {
		return fmt.Errorf("%s exists already: what its keys have sealed, other keys cannot read, so it is left "+
			"alone", files[0])
	}
	if err != nil {
		return err
	}
	if _, err = file.WriteString(environment()); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}
