package console

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// explainView is why a key can or cannot reach a model.
type explainView struct {
	KeyID, Model string
	Key          reference
	Models       []string
	Problems     []string
	Answer       *client.Explanation
}

func (p *page) explain() error {
	q := p.query()
	view := explainView{KeyID: q.text("key_id"), Model: q.text("model"), Models: p.names(catalog.KindModel)}
	id := q.number("key_id")
	view.Problems = q.wrong
	if id == 0 || view.Model == "" || len(q.wrong) > 0 {
		return p.render("explain", http.StatusOK, view)
	}
	view.Key = p.namesOf(catalog.KindKey).reference(id)
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
