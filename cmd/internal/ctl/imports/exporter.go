package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The JSON of the New API exporter, version 1.0.0. What it does not carry over of a channel is in
// _original, as New API has it.
type exported struct {
	Version  string   `json:"version"`
	Warnings []string `json:"warnings"`
	Data     struct {
		Providers []exportedProvider `json:"providers"`
		Masters   []exportedMaster   `json:"masters"`
		Keys      []exportedKey      `json:"keys"`
		Bindings  []struct {
			Namespace  string `json:"namespace"`
			RouteGroup string `json:"route_group"`
			Model      string `json:"model"`
			Status     string `json:"status"`
		} `json:"bindings"`
	} `json:"data"`
}

type exportedProvider struct {
	ID           int64            `json:"original_id"`
	Name         string           `json:"name"`
	Type         string           `json:"type"`
	BaseURL      string           `json:"base_url"`
	APIKey       string           `json:"api_key"`
	Models       []string         `json:"models"`
	PrimaryGroup string           `json:"primary_group"`
	AllGroups    []string         `json:"all_groups"`
	Weight       int64            `json:"weight"`
	Priority     int64            `json:"priority"`
	Status       string           `json:"status"`
	AutoBan      *bool            `json:"auto_ban"`
	KeyIndex     int              `json:"multi_key_index"` // from 1
	OriginalName string           `json:"original_name"`
	Original     *originalChannel `json:"_original"`
}

// originalChannel is what is read of a channel as New API has it.
type originalChannel struct {
	Type         int64           `json:"type"`
	Organization *string         `json:"openai_organization"`
	Other        string          `json:"other"`
	Weight       *int64          `json:"weight"`
	Priority     *int64          `json:"priority"`
	Mapping      *string         `json:"model_mapping"`
	Tag          *string         `json:"tag"`
	ChannelInfo  json.RawMessage `json:"channel_info"`

	StatusMapping  *string `json:"status_code_mapping"`
	Setting        *string `json:"setting"`
	Settings       *string `json:"settings"`
	ParamOverride  *string `json:"param_override"`
	HeaderOverride *string `json:"header_override"`
	TestModel      *string `json:"test_model"`
	Remark         *string `json:"remark"`
}

type exportedMaster struct {
	Name    string `json:"name"`
	Group   string `json:"group"`
	Status  string `json:"status"`
	MaxKeys int64  `json:"max_child_keys"`
	QPS     int64  `json:"global_qps"`
	UserID  int64  `json:"_source_user_id"`
}

type exportedKey struct {
	Master       string   `json:"master_ref"`
	Token        string   `json:"original_token"`
	Name         string   `json:"name"`
	Group        string   `json:"group"`
	Status       string   `json:"status"`
	Scopes       []string `json:"scopes"`
	Namespaces   []string `json:"namespaces"`
	Limited      bool     `json:"model_limits_enabled"`
	Models       []string `json:"model_limits"`
	ExpiresAt    string   `json:"expires_at"`
	AllowIPs     []string `json:"allow_ips"`
	QuotaLimit   int64    `json:"quota_limit"` // what remains
	Unlimited    bool     `json:"unlimited_quota"`
	ID           int64    `json:"_original_id"`
	HasPlaintext *bool    `json:"_token_plaintext_available"`
}

// NewAPI makes a file of what the New API exporter (version 1.0.0) has written.
func NewAPI(text []byte, opts Options) (*Result, error) {
	var e exported
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&e); err != nil {
		return nil, jsonProblem(err)
	}
	if e.Version == "" {
		return nil, errors.New("is not a file of the New API exporter: it has no version")
	}
	if e.Version != "1.0.0" {
		return nil, fmt.Errorf("is of another version of the New API exporter: only 1.0.0 is read")
	}
	d := &dump{source: "new-api"}
	for _, p := range e.Data.Providers {
		d.channels = append(d.channels, d.exportedChannel(p))
	}
	for _, b := range e.Data.Bindings {
		d.routes = append(d.routes, route{b.Namespace, b.RouteGroup, b.Model, b.Status == "active"})
	}
	for _, m := range e.Data.Masters {
		d.users = append(d.users, user{
			id: m.UserID, name: m.Name, group: m.Group, active: m.Status == "active", maxKeys: m.MaxKeys, qps: m.QPS,
		})
	}
	for _, k := range e.Data.Keys {
		d.exportedToken(k)
	}
	for _, w := range e.Warnings {
		if !handled(w) {
			d.notes.Add("", "the exporter warns: %s", plain(w))
		}
	}
	return d.result(opts), nil
}

// handled reports whether a warning of the exporter is about what is read from _original, or
// about groups, of which each gets its provider.
func handled(warning string) bool {
	return slices.ContainsFunc([]string{"has priority=", "has model_mapping", "multiple groups", "has unknown type"},
		func(part string) bool { return strings.Contains(warning, part) })
}

// jsonProblem says what is wrong with JSON, and quotes nothing of it.
func jsonProblem(err error) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("is not valid JSON, at byte %d", e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("has a value of another type in %s, at byte %d", plain(e.Field), e.Offset)
	}
	return errors.New("is not valid JSON")
}

func (d *dump) exportedChannel(p exportedProvider) channel {
	c := channel{
		id: p.ID, name: p.Name, typeName: p.Type, baseURL: p.BaseURL, models: p.Models, groups: p.AllGroups,
		weight: p.Weight, priority: p.Priority, active: p.Status == "active", autoBan: p.AutoBan == nil || *p.AutoBan,
	}
	if p.OriginalName != "" {
		c.name = p.OriginalName
	}
	if len(c.groups) == 0 {
		c.groups = splitList(p.PrimaryGroup)
	}
	c.vendor, c.known = vendorNamed(p.Type)
	disabled := map[int]bool{}
	if o := p.Original; o != nil {
		d.original(&c, o)
		disabled = disabledKeys(o.ChannelInfo)
		if _, name, known := vendorNumbered(o.Type, false); p.Type == "custom" && !known && name == "" {
			c.known = false
		}
	}
	keys := splitKeys(p.APIKey)
	for i, text := range keys {
		number := p.KeyIndex
		if number == 0 && len(keys) > 1 {
			number = i + 1
		}
		c.keys = append(c.keys, credential{text, number, disabled[number]})
	}
	return c
}

// original takes what the exporter leaves behind.
func (d *dump) original(c *channel, o *originalChannel) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return strings.TrimSpace(*s)
	}
	if o.Priority != nil {
		c.priority = *o.Priority
	}
	if o.Weight != nil { // the exporter makes weights of priorities
		c.weight = *o.Weight
	}
	c.version, c.mapping, c.org, c.tag = o.Other, text(o.Mapping), text(o.Organization), text(o.Tag)
	c.left = map[string]string{
		"status_code_mapping": text(o.StatusMapping), "setting": text(o.Setting), "settings": text(o.Settings),
		"param_override": text(o.ParamOverride), "header_override": text(o.HeaderOverride),
		"test_model": text(o.TestModel), "remark": text(o.Remark),
	}
}

// disabledKeys reads which keys of a channel are disabled, by their numbers from 1. New API
// counts them from 0, and calls 1 what is enabled.
func disabledKeys(info json.RawMessage) map[int]bool {
	var parsed struct {
		Status map[string]int `json:"multi_key_status_list"`
	}
	disabled := map[int]bool{}
	if json.Unmarshal(info, &parsed) != nil {
		return disabled
	}
	for index, status := range parsed.Status {
		if n, err := strconv.Atoi(index); err == nil && status != 1 {
			disabled[n+1] = true
		}
	}
	return disabled
}

func (d *dump) exportedToken(k exportedKey) {
	t := token{
		id: k.ID, user: k.Master, text: k.Token, name: k.Name, group: k.Group, status: k.Status, expires: k.ExpiresAt,
		unlimited: k.Unlimited, remain: k.QuotaLimit, addresses: k.AllowIPs, scopes: k.Scopes, namespaces: k.Namespaces,
	}
	if t.limited = k.Limited; t.limited {
		t.models = k.Models
	}
	if k.HasPlaintext != nil && !*k.HasPlaintext {
		t.text = ""
	}
	d.tokens = append(d.tokens, t)
}
