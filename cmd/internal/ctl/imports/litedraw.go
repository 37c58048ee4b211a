package imports

import (
	"maps"
	"math"
	"slices"
	"strconv"
)

// drawn is a deployment among which LiteLLM draws: the binding that it becomes, and its settings.
type drawn struct{ binding, params map[string]any }

// draw notes a deployment of a model.
func (l *lite) draw(model string, binding, params map[string]any) {
	l.draws[model] = append(l.draws[model], drawn{binding, params})
}

// weigh gives the bindings of each model their weights. LiteLLM draws among the deployments of a
// name by one measure, the first of these that any of them has; who lacks it takes none.
func (l *lite) weigh() {
	for _, model := range slices.Sorted(maps.Keys(l.draws)) {
		all := l.draws[model]
		for _, measure := range []string{"weight", "rpm", "tpm"} {
			if slices.ContainsFunc(all, func(d drawn) bool { return d.params[measure] != nil }) {
				l.weighBy(model, measure, all)
				break
			}
		}
	}
}

func (l *lite) weighBy(model, measure string, all []drawn) {
	subject := "model " + plain(model)
	if measure != "weight" {
		l.notes.Add("", "%s becomes the weight of a deployment, and no limit", measure)
	}
	bindings, shares := []map[string]any{}, []float64{}
	for _, d := range all {
		share, ok := number(d.params[measure])
		switch {
		case d.params[measure] == nil:
			l.notes.Add(subject, "has deployments without %s beside others with one: they take requests only when the "+
				"others fail, and get the weight 0", measure)
		case !ok:
			l.notes.Add(subject, "has a %s that is no number from 0 on, and counts as 0", measure)
		}
		for _, other := range []string{"rpm", "tpm"} {
			if other != measure && d.params[other] != nil {
				l.notes.Add(subject, "has %s, which has no place here: %s is what is drawn by", other, measure)
			}
		}
		i := slices.IndexFunc(bindings, func(b map[string]any) bool {
			return b["provider_group"] == d.binding["provider_group"]
		})
		if i < 0 {
			bindings, shares = append(bindings, d.binding), append(shares, share)
		} else { // the same deployment again
			shares[i] += share
		}
	}
	weights, exact := wholeWeights(shares)
	if !exact {
		l.notes.Add(subject, "has a %s that is no whole number, or beyond %d; the weights are in the same proportion",
			measure, maxWeight)
	}
	for i, b := range bindings {
		if weights[i] != 1 {
			b["weight"] = weights[i]
		}
	}
}

// wholeWeights turns shares into weights, in their proportion where they are none as they stand.
func wholeWeights(shares []float64) (weights []int64, exact bool) {
	most, exact := slices.Max(shares), true
	for _, s := range shares {
		exact = exact && s == math.Trunc(s) && s <= float64(maxWeight)
	}
	factor := 1.0
	if !exact {
		factor = min(1000, float64(maxWeight)/most)
	}
	for _, s := range shares {
		w := int64(math.Round(s * factor))
		if s > 0 {
			w = max(w, 1)
		}
		weights = append(weights, w)
	}
	return weights, exact
}

// number reads a number from 0 on, which may stand in a string.
func number(v any) (n float64, ok bool) {
	switch v := v.(type) {
	case int:
		n, ok = float64(v), true
	case int64:
		n, ok = float64(v), true
	case uint64:
		n, ok = float64(v), true
	case float64:
		n, ok = v, true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		n, ok = f, err == nil
	}
	if !ok || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		return 0, false
	}
	return n, true
}
