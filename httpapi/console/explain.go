package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// explainView is why a key can or cannot reach a model.
type explainView struct {
	Asked    string // the key, as it was typed
	Model    string
	Key      reference
	Keys     []string // names to choose from
	Several  []choiceOfKey
	Models   []string
	Problems []string
	Answer   *client.Explanation
}

func (p *page) explain() error {
	q := p.query()
	view := explainView{
		Asked: q.text("key"), Model: q.text("model"), Models: p.names(catalog.KindModel), Keys: p.names(catalog.KindKey),
	}
	id := q.number("key_id")
	if view.Problems = q.wrong; len(q.wrong) > 0 {
		return p.render("explain", http.StatusUnprocessableEntity, view)
	}
	if id == 0 && view.Asked != "" {
		var err error
		if id, err = p.findKey(&view); err != nil {
			return err
		}
	}
	if id != 0 {
		view.Key = p.namesOf(catalog.KindKey).reference(id)
		if view.Asked = view.Key.Name; view.Asked == "" {
			view.Asked = strconv.FormatInt(id, 10)
		}
	}
	if id == 0 || view.Model == "" {
		return p.render("explain", http.StatusOK, view)
	}
	answer, err := p.client.Explain(p.ctx(), id, view.Model)
	if messages, ok := p.problems(err); ok {
		view.Problems = messages
		return p.render("explain", http.StatusUnprocessableEntity, view)
	}
	if err != nil {
		return err
	}
	view.Answer = &answer
	return p.render("explain", http.StatusOK, view)
}

// A choiceOfKey is one of several keys of the same name.
type choiceOfKey struct {
	ID            int64
	Name, Project string
	Path          string // of the page that explains this one
}

// findKey returns the key of a name, or of an id; 0 where there is none, or where there are several, which are
// then shown. Several keys may have the same name.
func (p *page) findKey(view *explainView) (int64, error) {
	found, err := p.client.Keys.List(p.ctx(), client.Query{Name: view.Asked, Limit: pageSize})
	if err != nil {
		return 0, err
	}
	switch len(found.Data) {
	case 0:
		if id, err := strconv.ParseInt(view.Asked, 10, 64); err == nil && id > 0 {
			return id, nil
		}
		view.Problems = []string{p.words.text("explain.nokey")}
		return 0, nil
	case 1:
		return found.Data[0].ID, nil
	}
	for i := range found.Data {
		k := &found.Data[i]
		path := link("explain", "key_id", strconv.FormatInt(k.ID, 10), "model", view.Model)
		view.Several = append(view.Several, choiceOfKey{k.ID, k.Name, k.Project, path})
	}
	return 0, nil
}

func (p *page) lookupForm() error { return p.render("lookup", http.StatusOK, "") }

// lookup finds the key of a token that somebody has found. The token is sent in a form, and is in no
// address and on no page.
func (p *page) lookup() error {
	if err := p.form(); err != nil {
		return err
	}
	token := strings.TrimSpace(p.r.PostForm.Get("token"))
	if token == "" {
		return p.render("lookup", http.StatusUnprocessableEntity, p.words.text("lookup.empty"))
	}
	key, err := p.client.Keys.Lookup(p.ctx(), catalog.NewSecret(token))
	if e, ok := asProblem(err); ok && e.Status == http.StatusNotFound {
		return p.render("lookup", http.StatusNotFound, p.words.text("lookup.nobody"))
	}
	if err != nil {
		return err
	}
	p.redirect(fmt.Sprintf("keys/%d", key.ID))
	return nil
}
