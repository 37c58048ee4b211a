package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The files of a data directory.
const (
	lockFile   = "lock"
	sqliteFile = "ezapi.db"
	tokenFile  = "admin-token"
	dbKeysFile = "db-keys"

	redisPasswordFile = "redis-password" // of the in-process Redis
	redisURLFile      = "redis-url"      // where it is now, with the password
)

// errInUse says that another process holds the lock of a file.
var errInUse = errors.New("in use by another process")

// A dataDir is a directory that this process alone uses until Close.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory, for its owner alone, where there is none,
// and locks it.
func openDataDir(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, &SettingError{"EZ_DATA_DIR", "must name a directory: " + reason(err)}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, &SettingError{"EZ_DATA_DIR", fmt.Sprintf(
			"must name a directory that can be written, %s cannot be made: %s%s", path, reason(err), ownerRemedy(path, err))}
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &SettingError{"EZ_DATA_DIR", fmt.Sprintf(
			"must name a directory that can be written, %s cannot: %s%s", path, reason(err), ownerRemedy(path, err))}
	}
	if err := lockExclusive(lock); err != nil {
		_ = lock.Close()
		if errors.Is(err, errInUse) {
			return nil, &SettingError{"EZ_DATA_DIR", "must name a directory that no other server uses, " + path +
				" is in use: stop that server or choose another directory"}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &dataDir{path: path, lock: lock}, nil
}

// tryTemporary reports whether temporary files can be written: exports of the catalog and large sorts of SQLite go
// there, and would fail later, one request after the other.
func tryTemporary() error {
	file, err := os.CreateTemp("", "ezapi-")
	if err != nil {
		return &SettingError{"TMPDIR", fmt.Sprintf(
			"must name a directory for temporary files that can be written, %s cannot: %s%s", os.TempDir(), reason(err),
			ownerRemedy(os.TempDir(), err))}
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// Close lets others use the directory.
func (d *dataDir) Close() error { return d.lock.Close() }

// file returns the path of a file in the directory.
func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// has reports whether there is such a file.
func (d *dataDir) has(name string) bool {
	_, err := os.Stat(d.file(name))
	return err == nil
}

// secret returns the content of a file, which is generated when it is not there.
func (d *dataDir) secret(name string, generate func() string) (string, error) {
	content, err := os.ReadFile(d.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		text := generate()
		return text, d.write(name, text+"\n")
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(content)), nil
}

// write puts a file in place, whole or not at all, before it returns.
func (d *dataDir) write(name, content string) (err error) {
	temporary, err := os.CreateTemp(d.path, name+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.WriteString(content)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), d.file(name)); err != nil {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	_ = dir.Sync() // not every system can
	return dir.Close()
}

// adminToken returns the token that was made at the first start.
func (d *dataDir) adminToken() (tokens, error) {
	text, err := d.secret(tokenFile, func() string { return newToken("ez-admin-") })
	if err != nil {
		return nil, err
	}
	var t tokens
	if err := t.UnmarshalText([]byte(text)); err != nil {
		return nil, fmt.Errorf("%s does not hold a token: mend or remove it", d.file(tokenFile))
	}
	return t, nil
}

// dbKeys returns the keys that were made at the first start. It makes none
// beside a database that was sealed with others.
func (d *dataDir) dbKeys() (keyList, error) {
	if d.has(sqliteFile) && !d.has(dbKeysFile) {
		return nil, &SettingError{"EZ_DB_KEYS", fmt.Sprintf(
			"must be the keys that sealed %s, because %s is gone", d.file(sqliteFile), d.file(dbKeysFile))}
	}
	text, err := d.secret(dbKeysFile, func() string { return newKey("k1") })
	if err != nil {
		return nil, err
	}
	var keys keyList
	if err := keys.UnmarshalText([]byte(text)); err != nil {
		return nil, fmt.Errorf("%s %w", d.file(dbKeysFile), err)
	}
	return keys, nil
}

// redisPassword returns the password of the in-process Redis, which was made at the first start.
func (d *dataDir) redisPassword() (string, error) {
	password, err := d.secret(redisPasswordFile, func() string { return newToken("") })
	if err == nil && len(password) < minRedisPassword {
		err = fmt.Errorf("%s does not hold a password: mend or remove it", d.file(redisPasswordFile))
	}
	return password, err
}
