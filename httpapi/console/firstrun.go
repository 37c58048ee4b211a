package console

import (
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi/client"
)

// A firstStep is a step from an empty catalog to the first request.
type firstStep struct {
	Kind catalog.Kind
	Done bool
}

// firstSteps returns the way to the first request, and nothing once there is a key to make it with.
func (p *page) firstSteps() (steps []firstStep, err error) {
	if !p.MayWrite() || p.Limited() {
		return nil, nil
	}
	for _, kind := range []catalog.Kind{catalog.KindProvider, catalog.KindModel, catalog.KindKey} {
		found, err := p.client.Objects(kind).List(p.ctx(), client.Query{Limit: 1})
		if err != nil {
			return nil, err
		}
		steps = append(steps, firstStep{kind, len(found.Data) > 0})
	}
	if steps[len(steps)-1].Done {
		return nil, nil
	}
	return steps, nil
}
