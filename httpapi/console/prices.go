package console

import (
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/pricefile"
	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/httpapi/client/priceimport"
)

// maxPriceList bounds a price list that is uploaded.
const maxPriceList = 16 << 20

// pricesView is the form of a price list, as it was filled in.
type pricesView struct {
	Map      string
	Free     bool
	Problems []string
}

func (p *page) pricesForm() error { return p.showPricesForm(http.StatusOK) }

func (p *page) showPricesForm(status int, problems ...string) error {
	p.typing = true
	view := pricesView{Problems: problems}
	if p.r.PostForm != nil {
		view.Map, view.Free = p.r.PostForm.Get("map"), p.r.PostForm.Get("accept_free") != ""
	}
	return p.render("prices", status, view)
}

// prices plans what a price list changes, and carries it out. Between the two the browser keeps the
// models with their prices, sealed.
func (p *page) prices() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxPriceList+maxForm)
	if err := p.r.ParseMultipartForm(maxUpload); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return p.wrongPrices(p.words.text("prices.toolarge", maxPriceList>>20))
	}
	if err := p.resume(); err != nil {
		return err
	}
	if p.paused && p.r.PostForm.Get("prices") == "" {
		return p.showPricesForm(http.StatusOK)
	}
	found, err := p.foundPrices()
	if field, ok := errors.AsType[*catalog.FieldError](err); ok {
		return p.wrongPrices(p.words.or("field.", field.Field) + ": " + p.words.message(field.Message))
	}
	if err != nil {
		return err
	}
	sealed, err := p.sealPrices(found)
	if err != nil {
		return err
	}
	state, err := found.Desired()
	if err != nil {
		return err
	}
	view := planView{
		Title: "prices.plan", Action: "models/prices", Hidden: []hiddenValue{{"prices", sealed}},
		Notes: p.grouped(found.Notes),
	}
	return p.carry(view, func(expect string, dryRun bool, more ...client.WriteOption) (catalog.Plan, error) {
		plan, err := p.client.Apply(p.ctx(), state, &catalog.ApplyOptions{Expect: expect, DryRun: dryRun}, more...)
		if !plan.Applied && found.Moved(plan) {
			return plan, errMoved
		}
		return plan, err
	})
}

// errMoved says that a model has changed since its prices were looked up.
var errMoved = errors.New("console: a model has changed since it was read")

func (p *page) wrongPrices(problem string) error {
	return p.showPricesForm(http.StatusUnprocessableEntity, problem)
}

// foundPrices returns what a list that is uploaded changes, or what was found before.
func (p *page) foundPrices() (found *priceimport.Import, err error) {
	form := p.r.PostForm
	if sealed := form.Get("prices"); sealed != "" {
		text, err := p.unzipped("prices", sealed, maxPriceList)
		if err == nil {
			err = json.Unmarshal(text, &found)
		}
		if err != nil {
			return nil, wrongFile("must be uploaded again: what was found in it was not sealed here")
		}
		return found, nil
	}
	file, _, err := p.r.FormFile("file")
	if err != nil {
		return nil, wrongFile("must be chosen")
	}
	defer file.Close()
	list, err := readPriceList(file)
	if err != nil {
		return nil, err
	}
	var providers []string
	for line := range strings.Lines(form.Get("map")) {
		if line = strings.TrimSpace(line); line != "" {
			providers = append(providers, line)
		}
	}
	return priceimport.Read(p.ctx(), p.client, list, &priceimport.Options{
		Providers: providers, AcceptFree: form.Get("accept_free") != "",
	})
}

func readPriceList(file multipart.File) (*pricefile.List, error) {
	text, err := io.ReadAll(io.LimitReader(file, maxPriceList+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPriceList {
		return nil, wrongFile("is too large")
	}
	list, err := pricefile.Parse(text)
	if err != nil {
		return nil, wrongFile(err.Error())
	}
	return list, nil
}

func wrongFile(message string) error { return &catalog.FieldError{Field: "file", Message: message} }

func (p *page) sealPrices(found *priceimport.Import) (string, error) {
	text, err := json.Marshal(found)
	if err != nil {
		return "", err
	}
	return p.sessions.seal("prices", zip(text))
}

// planNote is something that is true of several models.
type planNote struct {
	Text   string
	Models []string
	More   int // models that are not named
}

// How many notes a page has, and how many models each names.
const (
	maxNotes      = 100
	maxNoteModels = 20
)

// grouped puts the models together of which the same is true.
func (p *page) grouped(notes []priceimport.Note) (groups []planNote) {
	at := map[string]int{}
	for _, n := range notes {
		i, known := at[n.Text]
		if !known {
			if len(groups) == maxNotes {
				continue
			}
			i = len(groups)
			at[n.Text] = i
			groups = append(groups, planNote{Text: p.words.message(n.Text)})
		}
		if len(groups[i].Models) == maxNoteModels {
			groups[i].More++
			continue
		}
		groups[i].Models = append(groups[i].Models, n.Model)
	}
	return groups
}
