package catalog

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// PriceList is a small table of all prices, those of models and those of providers, kept in memory,
// so that a look-up needs no database. A [Follower] fills it and keeps it up to date; it is empty
// until then. A PriceList is safe for concurrent use.
type PriceList struct {
	mu        sync.RWMutex // guards all below: Quote reads, the follower writes
	known     bool
	head      Head
	models    map[modelName]modelPrices
	names     map[int64]modelName // of models, by id
	providers map[int64]*providerPrices
}

var _ Copy = (*PriceList)(nil)

type modelName struct{ namespace, name string }

// modelPrices knows its model: in one commit, another may take over its name.
type modelPrices struct {
	id     int64
	prices *Prices
}

// providerPrices are the records of one provider by upstream model.
type providerPrices struct {
	exact map[string]*Prices
	stars []starPrices // the longest first
}

type starPrices struct {
	prefix string
	prices *Prices
}

// A PriceKey says what was asked of whom.
type PriceKey struct {
	ProviderID    int64
	UpstreamModel string // as the provider was asked for it
	Namespace     string
	Model         string // public name, without namespace
}

// A Quote is the answer of a [PriceList].
type Quote struct {
	// Prices is the record that prices the request whole; nil when there is none, or none
	// with any price. It MUST NOT be changed.
	Prices   *Prices
	Epoch    Epoch // of the catalog that says so
	Revision Revision
}

// NewPriceList returns an empty list.
func NewPriceList() *PriceList { return &PriceList{} }

// Quote returns the record that prices a request: the provider's for the upstream model
// (the exact one, then the longest with a star), else the model's in its namespace (the
// exact one, then those with a star in the order in which names are routed). It does not wait
// for a database. It is not ok before the list was read for the first time.
func (l *PriceList) Quote(k PriceKey) (q Quote, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if q, ok = l.at(); ok {
		q.Prices = findPrices(l, k)
	}
	return q, ok
}

// At returns a quote without a record, for what has its price already: it says which revision the list is of.
func (l *PriceList) At() (q Quote, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.at()
}

func (l *PriceList) at() (q Quote, ok bool) {
	return Quote{Epoch: l.head.Epoch, Revision: l.head.Revision}, l.known
}

// priceBook is where prices are looked up.
type priceBook interface {
	model(name modelName) (p *Prices, ok bool)
	provider(id int64) *providerPrices
}

var (
	_ priceBook = (*PriceList)(nil)
	_ priceBook = pricesAt{}
)

func (l *PriceList) model(name modelName) (*Prices, bool) {
	m, ok := l.models[name]
	return m.prices, ok
}

func (l *PriceList) provider(id int64) *providerPrices { return l.providers[id] }

// findPrices returns the record that prices a request, nil when there is none.
func findPrices(b priceBook, k PriceKey) *Prices {
	if p := b.provider(k.ProviderID); p != nil {
		if prices := p.find(k.UpstreamModel); prices != nil {
			return prices
		}
	}
	return findModel(b, k.Namespace, k.Model)
}

func (p *providerPrices) find(upstream string) *Prices {
	if upstream == "" {
		return nil
	}
	if prices := p.exact[upstream]; prices != nil {
		return prices
	}
	for _, s := range p.stars {
		if strings.HasPrefix(upstream, s.prefix) {
			return s.prices
		}
	}
	return nil
}

// The longest name that anything but its own record is found for.
const (
	maxRoutedName    = 256 // bytes
	maxRoutedSlashes = 8
)

// findModel looks for a name as it is, then for each shorter path with a star.
func findModel(b priceBook, namespace, name string) *Prices {
	if p, ok := b.model(modelName{namespace, name}); ok {
		return p
	}
	if name == "" || len(name) > maxRoutedName || strings.Contains(name, "*") ||
		strings.Count(name, "/") > maxRoutedSlashes {
		return nil
	}
	for path := name; ; {
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			p, _ := b.model(modelName{namespace, "*"})
			return p
		}
		path = path[:i]
		if p, ok := b.model(modelName{namespace, path + "/*"}); ok {
			return p
		}
	}
}

// Kinds implements [Copy].
func (*PriceList) Kinds() []Kind { return []Kind{KindModel, KindProvider} }

// Load implements [Copy].
func (l *PriceList) Load(ctx context.Context, r Reader) error {
	fresh := PriceList{
		known: true, head: r.Head(), models: make(map[modelName]modelPrices), names: make(map[int64]modelName),
		providers: make(map[int64]*providerPrices),
	}
	for _, kind := range []Kind{KindModel, KindProvider} {
		err := eachEntity(ctx, r, kind, func(e Entity) { fresh.put(pricedOf(e)) })
		if err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.head = true, fresh.head
	l.models, l.names, l.providers = fresh.models, fresh.names, fresh.providers
	return nil
}

// Apply implements [Copy].
func (l *PriceList) Apply(_ context.Context, _ Reader, changes []Change, revision Revision) error {
	l.take(changes, revision)
	return nil
}

func (l *PriceList) take(changes []Change, revision Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		switch c.Kind {
		case KindModel, KindProvider:
			l.remove(c.Kind, c.ID)
			if len(c.After) > 0 {
				l.put(pricedIn(c))
			}
		}
	}
	l.head.Revision = revision
}

// Arrive implements [Copy].
func (l *PriceList) Arrive(head Head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head
}

// A priced entity is a model or a provider as far as prices go.
type priced struct {
	kind   Kind
	id     int64
	name   modelName         // of a model
	model  *Prices           // of a model; nil when it has none
	models map[string]Prices // of a provider, by upstream model
}

// pricedOf reads a stored entity. Secrets do not matter: a provider that cannot be opened
// has its prices all the same. What cannot be read has none.
func pricedOf(e Entity) priced {
	p := priced{kind: e.Kind, id: e.ID}
	if e.Kind == KindModel {
		p.name = modelName{first(e.Namespaces), e.Name}
		var prices Prices
		if e.spec(&prices) == nil && prices.HasAny() {
			p.model = &prices
		}
		return p
	}
	var spec struct {
		Prices map[string]Prices `json:"prices"`
	}
	if e.spec(&spec) == nil {
		p.models = spec.Prices
	}
	return p
}

// pricedIn reads what a change made of an entity.
func pricedIn(c *Change) priced {
	p := priced{kind: c.Kind, id: c.ID}
	if c.Kind == KindModel {
		var model struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
			Prices
		}
		err := json.Unmarshal(c.After, &model)
		p.name = modelName{model.Namespace, model.Name}
		if err == nil && model.HasAny() {
			p.model = &model.Prices
		}
		return p
	}
	var provider struct {
		Prices map[string]Prices `json:"prices"`
	}
	if json.Unmarshal(c.After, &provider) == nil {
		p.models = provider.Prices
	}
	return p
}

// put adds what remove has taken away. It needs the lock.
func (l *PriceList) put(p priced) {
	switch {
	case p.kind == KindModel: // also without prices: what exists decides
		l.models[p.name], l.names[p.id] = modelPrices{p.id, p.model}, p.name
	case p.kind == KindProvider && len(p.models) > 0:
		records := &providerPrices{exact: make(map[string]*Prices, len(p.models))}
		for upstream, prices := range p.models {
			if prefix, ok := strings.CutSuffix(upstream, "*"); ok {
				records.stars = append(records.stars, starPrices{prefix, &prices})
			} else {
				records.exact[upstream] = &prices
			}
		}
		slices.SortFunc(records.stars, func(a, b starPrices) int { return len(b.prefix) - len(a.prefix) })
		l.providers[p.id] = records
	}
}

// remove forgets the prices of an entity. It needs the lock.
func (l *PriceList) remove(kind Kind, id int64) {
	if kind == KindProvider {
		delete(l.providers, id)
		return
	}
	if name, ok := l.names[id]; ok {
		delete(l.names, id)
		if l.models[name].id == id {
			delete(l.models, name)
		}
	}
}
