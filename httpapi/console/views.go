package console

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/ez-api/ez-api/httpapi"
)

//go:embed templates
var templateFiles embed.FS

// views are the templates of all pages in all languages.
type views struct {
	byLanguage map[string]translation
}

// translation is every page in one language.
type translation struct {
	words *words
	pages map[string]func() (*template.Template, error)
}

// loadViews parses every page together with the frame, and with the parts that pages share: each when it
// is first asked for, because all of them take ten megabytes.
func loadViews(c *Console) (views, error) {
	v := views{map[string]translation{}}
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		return v, err
	}
	for _, lang := range languages() {
		w, err := loadWords(lang, c.nouns)
		if err != nil {
			return v, err
		}
		frame := template.New("frame.html").Funcs(template.FuncMap{
			"t": w.text, "word": w.or, "say": w.message, "nodes": w.nodes, "asset": c.assets.name,
			"number": number, "usd": usd, "percent": percent,
			"ordinal": func(i int) int { return i + 1 },
		})
		if frame, err = frame.ParseFS(templateFiles, "templates/frame.html", "templates/parts.html"); err != nil {
			return v, err
		}
		of := translation{w, map[string]func() (*template.Template, error){}}
		for _, f := range files {
			name := strings.TrimSuffix(f.Name(), ".html")
			of.pages[name] = sync.OnceValues(func() (*template.Template, error) {
				page, err := frame.Clone()
				if err != nil {
					return nil, err
				}
				return page.ParseFS(templateFiles, path.Join("templates", f.Name()))
			})
		}
		v.byLanguage[lang] = of
	}
	return v, nil
}

func (v views) wordsOf(r *http.Request) *words { return v.byLanguage[languageOf(r)].words }

// view is what templates see: the page, and what the page has to say.
type view struct {
	*page
	Data any
}

func (v views) render(w io.Writer, name string, p *page, data any) error {
	parse := v.byLanguage[p.words.Language].pages[name]
	if parse == nil {
		return fmt.Errorf("there is no page %q", name)
	}
	t, err := parse()
	if err != nil {
		return err
	}
	start := "frame.html"
	if p.IsFragment() {
		start = "fragment"
	}
	return t.ExecuteTemplate(w, start, view{p, data})
}

// IsFragment reports whether a script asks for a part of a page.
func (p *page) IsFragment() bool { return p.r.Header.Get("X-Console-Fragment") != "" }

// Language, Theme, Root, Here, SignedIn, Who, Flash and Nav are for the frame.

// Language returns the language of the page.
func (p *page) Language() string { return p.words.Language }

// Theme returns light, dark, or nothing where the browser decides.
func (p *page) Theme() string { return p.theme }

// Root returns what all addresses of the page are relative to.
func (p *page) Root() string { return p.root() }

// Here returns the address of the page, relative to Root. That of the way back from an identity
// provider has a code, and is good once.
func (p *page) Here() string {
	here := strings.TrimPrefix(p.r.URL.Path, "/")
	if here == callbackPath {
		return "signin"
	}
	if p.r.URL.RawQuery != "" {
		here += "?" + p.r.URL.RawQuery
	}
	return here
}

// Typed returns the id of the form that the page has for typing, or nothing.
func (p *page) Typed() string {
	if p.typing {
		return typedForm
	}
	return ""
}

// Resumed reports whether the form on the page was sent before its sender had to sign in again.
func (p *page) Resumed() bool { return p.resumed }

// Switches reports whether the page has the buttons that switch the language and the theme: not where
// something is shown once, which would be gone.
func (p *page) Switches() bool { return !p.secret }

// SignedIn reports whether somebody is signed in.
func (p *page) SignedIn() bool { return p.caller.Role != "" }

// Who returns the one who is signed in.
func (p *page) Who() httpapi.Caller { return p.caller }

// Flash returns what the page before has done.
func (p *page) Flash() *flash { return p.flash }

// navGroup is a part of the navigation.
type navGroup struct {
	Name  string
	Links []navLink
}

type navLink struct {
	Path, Name string
	Here       bool
}

// Nav returns the pages that the caller may see. Who is limited to a project is not led to what the
// API would refuse.
func (p *page) Nav() []navGroup {
	first, _, _ := strings.Cut(strings.TrimPrefix(p.r.URL.Path, "/"), "/")
	var groups []navGroup
	for _, g := range navigation() {
		shown := navGroup{Name: g.name}
		for _, l := range g.links {
			if l.all || !p.Limited() {
				shown.Links = append(shown.Links, navLink{l.path, "nav." + l.path, l.path == first})
			}
		}
		if len(shown.Links) > 0 {
			groups = append(groups, shown)
		}
	}
	return groups
}

// navEntry is a page of the navigation. all says that it is for those too who are limited to a
// project.
type navEntry struct {
	path string
	all  bool
}

type navSection struct {
	name  string
	links []navEntry
}

func navigation() []navSection {
	return []navSection{
		{"nav.serving", []navEntry{{"providers", false}, {"models", true}, {"bindings", true}}},
		{"nav.clients", []navEntry{{"keys", true}, {"projects", true}, {"holds", true}}},
		{"nav.traffic", []navEntry{{"logs", true}, {"usage", true}, {"budgets", true}, {"explain", true}}},
		{"nav.server", []navEntry{{"changes", true}, {"alerts", true}, {"system", false}, {"operators", false}}},
	}
}
