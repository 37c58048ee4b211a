package imports

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/ez-api/ez-api/catalog"
)

// Database makes a file of a New API or one-api database in SQLite, which is only read.
func Database(ctx context.Context, path string, opts Options) (*Result, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, errors.New("cannot be opened")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: "mode=ro&_pragma=query_only(1)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("is no SQLite database that can be read: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	source := "new-api"
	if opts.OneAPI {
		source = "one-api"
	}
	if err := checkFlavour(ctx, tx, opts.OneAPI); err != nil {
		return nil, err
	}
	r := reader{tx: tx, d: &dump{source: source}, oneAPI: opts.OneAPI, names: map[int64]string{}}
	for _, read := range []func(context.Context) error{r.channels, r.abilities, r.users, r.tokens} {
		if err := read(ctx); err != nil {
			return nil, err
		}
	}
	return r.d.result(opts), nil
}

// checkFlavour refuses a database of New API that is said to be of one-api: both have the same
// tables, and number the types of channels otherwise.
func checkFlavour(ctx context.Context, tx *sql.Tx, oneAPI bool) error {
	var columns int
	err := tx.QueryRowContext(ctx, `select count(*) from pragma_table_info('channels')
		where name in ('channel_info', 'tag')`).Scan(&columns)
	if err != nil {
		return fmt.Errorf("is no SQLite database that can be read: %w", err)
	}
	if oneAPI && columns > 0 {
		return errors.New("is a database of New API, whose types of channels have other numbers; use import new-api")
	}
	return nil
}

// reader reads the tables of a database. Columns differ between versions, so that each row is
// read by the names of its columns.
type reader struct {
	tx     *sql.Tx
	d      *dump
	oneAPI bool
	names  map[int64]string // of users
}

// row is a row by the names of its columns.
type row map[string]any

func (r row) text(name string) string {
	switch v := r[name].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func (r row) number(name string) int64 {
	switch v := r[name].(type) {
	case int64:
		return v
	case float64:
		return int64(v)
	case bool:
		if v {
			return 1
		}
	case string:
		var n int64
		_, _ = fmt.Sscan(v, &n)
		return n
	}
	return 0
}

const maxRows = 1_000_000 // of a table

// rows reads a table.
func (r *reader) rows(ctx context.Context, table string, each func(row)) error {
	found, err := r.tx.QueryContext(ctx, "select * from "+table+" order by 1 limit ?", maxRows)
	if err != nil {
		if strings.Contains(err.Error(), "no such table") {
			return fmt.Errorf("is no database of New API or one-api: it has no table %s", table)
		}
		return fmt.Errorf("is no SQLite database that can be read: %w", err)
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return err
	}
	for found.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return err
		}
		v := row{}
		for i, name := range columns {
			v[name] = values[i]
		}
		each(v)
	}
	return found.Err()
}

const enabled = 1 // the status of channels, tokens and users that are in use

func (r *reader) channels(ctx context.Context) error {
	return r.rows(ctx, "channels", func(v row) {
		c := channel{
			id: v.number("id"), name: v.text("name"), baseURL: v.text("base_url"), version: v.text("other"),
			models: splitList(v.text("models")), groups: splitList(v.text("group")), weight: v.number("weight"),
			priority: v.number("priority"), active: v.number("status") == enabled,
			mapping: strings.TrimSpace(v.text("model_mapping")),
			autoBan: v["auto_ban"] == nil || v.number("auto_ban") != 0, tag: v.text("tag"),
			org: v.text("open_ai_organization"), left: map[string]string{},
		}
		number := v.number("type")
		c.vendor, c.typeName, c.known = vendorNumbered(number, r.oneAPI)
		if !c.known {
			c.typeName = fmt.Sprint(number)
		}
		if one, ok := oneAPIConfig(v.text("config")); ok && c.version == "" {
			c.version = one
		}
		for _, name := range []string{
			"status_code_mapping", "setting", "settings", "param_override", "header_override", "test_model", "remark",
			"system_prompt",
		} {
			c.left[name] = strings.TrimSpace(v.text(name))
		}
		disabled := disabledKeys(json.RawMessage(v.text("channel_info")))
		keys := splitKeys(v.text("key"))
		for i, text := range keys {
			number := 0
			if len(keys) > 1 {
				number = i + 1
			}
			c.keys = append(c.keys, credential{text, number, disabled[number]})
		}
		r.d.channels = append(r.d.channels, c)
	})
}

// oneAPIConfig reads the version or the region from one-api's column config.
func oneAPIConfig(text string) (string, bool) {
	var config struct {
		Region     string `json:"region"`
		APIVersion string `json:"api_version"`
	}
	if json.Unmarshal([]byte(text), &config) != nil {
		return "", false
	}
	for _, v := range []string{config.Region, config.APIVersion} {
		if v != "" {
			return v, true
		}
	}
	return "", false
}

func (r *reader) abilities(ctx context.Context) error {
	return r.rows(ctx, "abilities", func(v row) {
		r.d.routes = append(r.d.routes, route{group: v.text("group"), model: v.text("model"),
			active: v.number("enabled") != 0})
	})
}

func (r *reader) users(ctx context.Context) error {
	return r.rows(ctx, "users", func(v row) {
		id, quota := v.number("id"), v.number("quota")
		name := v.text("username")
		if v["deleted_at"] != nil {
			r.d.notes.Add(fmt.Sprintf("user %d", id), "was deleted, and is not imported")
			return
		}
		r.names[id] = name
		r.d.users = append(r.d.users, user{
			id: id, name: name, group: v.text("group"), active: v.number("status") == enabled, quota: &quota,
		})
	})
}

func (r *reader) tokens(ctx context.Context) error {
	return r.rows(ctx, "tokens", func(v row) {
		t := token{
			id: v.number("id"), text: strings.TrimSpace(v.text("key")), name: v.text("name"), group: v.text("group"),
			unlimited: v.number("unlimited_quota") != 0, remain: v.number("remain_quota"), status: "active",
		}
		if v["deleted_at"] != nil {
			r.d.notes.Add(fmt.Sprintf("token %d", t.id), "was deleted, and is not imported")
			return
		}
		owner := v.number("user_id")
		t.user = r.names[owner]
		t.orphan = t.user == ""
		if status := v.number("status"); status != enabled {
			t.status = map[int64]string{2: "disabled", 3: "expired", 4: "exhausted"}[status]
		}
		if at := v.number("expired_time"); at > 0 {
			t.expires = time.Unix(at, 0).UTC().Format(time.RFC3339)
		}
		t.limited = v.number("model_limits_enabled") != 0
		// one-api has only models, where an empty list is none.
		if names := v.text("model_limits") + v.text("models"); t.limited || v["model_limits_enabled"] == nil {
			t.models = splitList(names)
		}
		t.addresses = []string{v.text("allow_ips") + v.text("subnet")}
		r.d.tokens = append(r.d.tokens, t)
	})
}

// kinds lists what an import of New API has, each after what it refers to.
func kinds() []catalog.Kind {
	return []catalog.Kind{catalog.KindProject, catalog.KindProvider, catalog.KindModel, catalog.KindBinding,
		catalog.KindKey}
}
