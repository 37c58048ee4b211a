package health

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/logbuf"
)

var judgeNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// seen is a tally in a slot so long ago.
func seen(age time.Duration, ok int64, failed map[logbuf.FailureClass]int64, by ...string) logbuf.SlotTally {
	s := logbuf.SlotTally{Slot: judgeNow.Add(-age), Tally: logbuf.Tally{Succeeded: ok, Failed: failed}}
	for class := range failed {
		if len(by) > 0 {
			s.By = map[logbuf.FailureClass][]string{class: by}
		}
	}
	return s
}

type failed = map[logbuf.FailureClass]int64

// all is a catalog that has every provider and every model.
type all struct{}

func (all) Serves(int64, string) bool { return true }
func (all) AutoBan(int64) bool        { return true }

func (all) ListsByName(int64, string) bool { return true }

// passing is a catalog whose providers list all models, those that begin with m by name.
type passing struct{ all }

func (passing) ListsByName(_ int64, model string) bool { return strings.HasPrefix(model, "m") }

// some is one that has a few.
type some map[logbuf.Upstream]bool // and whether the provider may be held

func (s some) Serves(id int64, model string) bool {
	_, ok := s[logbuf.Upstream{ProviderID: id, Model: model}]
	return ok
}

func (s some) ListsByName(id int64, model string) bool { return s.Serves(id, model) }

func (s some) AutoBan(id int64) bool {
	for u, ban := range s {
		if u.ProviderID == id {
			return ban
		}
	}
	return false
}

func resetting(after time.Duration, by ...string) logbuf.SlotTally {
	s := seen(0, 0, failed{"rate": 2}, by...)
	s.Reset = judgeNow.Add(after)
	return s
}

func oldHold(target string, ended time.Duration, strikes int, cause string) catalog.Hold {
	return catalog.Hold{Meta: catalog.Meta{ID: 7, Revision: 9, Status: catalog.Active}, Target: target, Reason: "health",
		Until: judgeNow.Add(-ended), Strikes: strikes, Cause: cause}
}

// The rules, one by one. Verdicts read "hold TARGET SECONDS STRIKES CAUSE", "forget TARGET" and
// "probe TARGET CAUSE MODEL".
func TestJudge(t *testing.T) {
	m, disabled := logbuf.Upstream{ProviderID: 1, Model: "m"}, oldHold("provider/1/m", -time.Minute, 1, "failures")
	disabled.Status = catalog.Disabled
	of := func(slots ...logbuf.SlotTally) map[logbuf.Upstream][]logbuf.SlotTally {
		return map[logbuf.Upstream][]logbuf.SlotTally{m: slots}
	}
	for name, c := range map[string]struct {
		tallies map[logbuf.Upstream][]logbuf.SlotTally
		holds   []catalog.Hold
		want    []string
	}{
		"half of ten fail": {tallies: of(seen(0, 5, failed{"server": 5})),
			want: []string{"hold provider/1/m 30 1 failures"}},
		"less than half of ten": {tallies: of(seen(0, 6, failed{"server": 5}))},
		"all of nine":           {tallies: of(seen(0, 0, failed{"server": 9}))},
		"over several slots": {tallies: of(seen(50*time.Second, 3, failed{"timeout": 3}),
			seen(0, 2, failed{"rate": 2})), want: []string{"hold provider/1/m 30 1 failures"}},
		"longer ago than a minute": {tallies: of(seen(70*time.Second, 0, failed{"server": 100}),
			seen(0, 5, failed{"server": 4}))},
		"network at one balancer": {tallies: of(seen(0, 0, failed{"network": 100}, "a"))},
		"network at two": {tallies: of(seen(0, 0, failed{"network": 100}, "a", "b")),
			want: []string{"hold provider/1/m 30 1 failures"}},
		"while it is held": {tallies: of(seen(0, 0, failed{"server": 100})),
			holds: []catalog.Hold{oldHold("provider/1/m", -time.Second, 3, "failures")}},
		"while all of it is held": {tallies: of(seen(0, 0, failed{"server": 100})),
			holds: []catalog.Hold{oldHold("provider/1", -time.Second, 3, "models")}},
		"a hold that a person ends": {tallies: of(seen(0, 0, failed{"server": 100})),
			holds: []catalog.Hold{disabled}},
		"the second time": {tallies: of(seen(0, 0, failed{"server": 10})),
			holds: []catalog.Hold{oldHold("provider/1/m", time.Second, 1, "failures")},
			want:  []string{"hold provider/1/m 60 2 failures"}},
		"the seventh time": {tallies: of(seen(0, 0, failed{"server": 10})),
			holds: []catalog.Hold{oldHold("provider/1/m", time.Second, 6, "failures")},
			want:  []string{"hold provider/1/m 1800 7 failures"}},
		"the hundredth time": {tallies: of(seen(0, 0, failed{"server": 10})),
			holds: []catalog.Hold{oldHold("provider/1/m", time.Second, 99, "failures")},
			want:  []string{"hold provider/1/m 1800 100 failures"}},
		"what was before a hold": {tallies: of(seen(30*time.Second, 0, failed{"server": 100})),
			holds: []catalog.Hold{oldHold("provider/1/m", 10*time.Second, 1, "failures")}},
		"before a provider's hold": {tallies: of(seen(30*time.Second, 0, failed{"server": 100})),
			holds: []catalog.Hold{oldHold("provider/1", 10*time.Second, 1, "models")}},
		"three successes": {tallies: of(seen(0, 3, failed{"server": 2})),
			holds: []catalog.Hold{oldHold("provider/1/m", time.Second, 4, "failures")}, want: []string{"forget provider/1/m"}},
		"three successes that are known": {tallies: of(seen(0, 3, nil)),
			holds: []catalog.Hold{oldHold("provider/1/m", 30*time.Second, 0, "")}},
		"what was before it worked": {tallies: of(seen(50*time.Second, 0, failed{"server": 100}), seen(0, 3, nil)),
			holds: []catalog.Hold{oldHold("provider/1/m", 20*time.Second, 0, "")}},
		"two successes": {tallies: of(seen(0, 2, nil)),
			holds: []catalog.Hold{oldHold("provider/1/m", time.Second, 4, "failures")}},
		"three, and more failures": {tallies: of(seen(0, 3, failed{"server": 4})),
			holds: []catalog.Hold{oldHold("provider/1/m", time.Second, 4, "failures")}},
		"three of the provider": {tallies: of(seen(0, 3, nil)),
			holds: []catalog.Hold{oldHold("provider/1", time.Second, 4, "models")}, want: []string{"forget provider/1"}},
		"rate of one balancer": {tallies: of(resetting(5*time.Minute, "a"))},
		"rate of two": {tallies: of(resetting(5*time.Minute, "a", "b")),
			want: []string{"hold provider/1/m 300 0 rate"}},
		"rate of two, while most works": {tallies: of(resetting(5*time.Minute, "a", "b"), seen(0, 3, nil))},
		"rate of two, over":             {tallies: of(resetting(-time.Second, "a", "b"))},
		"rate without end": {tallies: of(resetting(24*time.Hour, "a", "b")),
			want: []string{"hold provider/1/m 3600 0 rate"}},
		"a later reset": {tallies: of(resetting(5*time.Minute, "a", "b")),
			holds: []catalog.Hold{oldHold("provider/1/m", -time.Minute, 2, "failures")},
			want:  []string{"hold provider/1/m 300 2 rate"}},
		"a later reset, of a hold that a person ends": {tallies: of(resetting(5*time.Minute, "a", "b")),
			holds: []catalog.Hold{disabled}},
		"an earlier reset": {tallies: of(resetting(5*time.Minute, "a", "b")),
			holds: []catalog.Hold{oldHold("provider/1/m", -time.Hour, 2, "rate")}},
		"auth once": {tallies: of(seen(0, 9, failed{"auth": 1}))},
		"auth twice": {tallies: of(seen(0, 9, failed{"auth": 2})),
			want: []string{"probe provider/1 auth m"}},
		"auth of half of ten": {tallies: of(seen(0, 5, failed{"auth": 5})),
			want: []string{"probe provider/1 auth m", "perhaps hold provider/1/m 30 1 failures"}},
		"auth twice, and half fail otherwise": {tallies: of(seen(0, 4, failed{"auth": 2, "server": 6})),
			want: []string{"hold provider/1/m 30 1 failures", "probe provider/1 auth m"}},
		"before the provider was released": {tallies: of(seen(10*time.Second, 0, failed{"auth": 10, "server": 10})),
			holds: []catalog.Hold{oldHold("provider/1", time.Second, 0, "")}},
		"after the provider was released": {tallies: of(seen(0, 0, failed{"auth": 10})),
			holds: []catalog.Hold{oldHold("provider/1", 10*time.Second, 0, "")},
			want:  []string{"probe provider/1 auth m", "perhaps hold provider/1/m 30 1 failures"}},
		"billing twice": {tallies: of(seen(0, 9, failed{"billing": 2})),
			want: []string{"probe provider/1 billing m"}},
		"held for its credential": {holds: []catalog.Hold{oldHold("provider/1", -time.Minute, 2,
			"billing")}, want: []string{"probe provider/1 billing "}},
		"three models": {holds: []catalog.Hold{oldHold("provider/1/a", -time.Minute, 2, "failures"),
			oldHold("provider/1/b", -time.Second, 1, "rate"), oldHold("provider/1/c", -time.Second, 1, "failures")},
			want: []string{"hold provider/1 60 1 models"}},
		"three, one by a person's will free": {holds: []catalog.Hold{disabled,
			oldHold("provider/1/b", -time.Second, 1, "rate"),
			oldHold("provider/1/c", -time.Second, 1, "failures")}},
		"three, one over": {holds: []catalog.Hold{oldHold("provider/1/a", time.Minute, 2, "failures"),
			oldHold("provider/1/b", -time.Second, 1, "rate"), oldHold("provider/1/c", -time.Second, 1, "failures")}},
		"a third in this round": {tallies: of(seen(0, 0, failed{"server": 10})), holds: []catalog.Hold{
			oldHold("provider/1/b", -time.Second, 1, "rate"), oldHold("provider/1/c", -time.Second, 1, "failures")},
			want: []string{"hold provider/1/m 30 1 failures"}},
		"models of two providers": {tallies: map[logbuf.Upstream][]logbuf.SlotTally{
			{ProviderID: 1, Model: "a"}: {seen(0, 0, failed{"server": 10})},
			{ProviderID: 2, Model: "b"}: {seen(0, 0, failed{"server": 10})},
		}, holds: []catalog.Hold{oldHold("provider/1/c", -time.Minute, 2, "failures")},
			want: []string{"hold provider/1/a 30 1 failures", "hold provider/2/b 30 1 failures"}},
		"a model without a name": {tallies: map[logbuf.Upstream][]logbuf.SlotTally{{ProviderID: 1}: {seen(0, 0,
			failed{"server": 10})}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{}.WithDefaults()
			holds := map[string]catalog.Hold{}
			for _, h := range c.holds {
				holds[h.Target] = h
			}
			if diff := cmp.Diff(c.want, texts(Judge(&o, judgeNow, c.tallies, holds, all{}))); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

func texts(verdicts []Verdict) (all []string) {
	for _, v := range verdicts {
		switch v.Do {
		case MakeHold:
			all = append(all, fmt.Sprintf("hold %s %d %d %s", v.Target, v.Until.Sub(judgeNow)/time.Second, v.Strikes, v.Cause))
		case Forget:
			all = append(all, fmt.Sprintf("forget %s", v.Target))
		case Probe:
			all = append(all, fmt.Sprintf("probe %s %s %s", v.Target, v.Cause, v.Ask))
			for _, after := range texts(v.Refused) {
				all = append(all, "perhaps "+after)
			}
		}
	}
	return all
}

// Beyond so many holds, the provider is held in place of its models.
func TestJudgeHoldsAreBounded(t *testing.T) {
	o := Options{Holds: 2}.WithDefaults()
	tallies := map[logbuf.Upstream][]logbuf.SlotTally{}
	for id := range int64(3) {
		for _, model := range []string{"a", "b"} {
			tallies[logbuf.Upstream{ProviderID: id + 1, Model: model}] = []logbuf.SlotTally{seen(0, 0, failed{"server": 10})}
		}
	}
	want := []string{"hold provider/1/a 30 1 failures", "hold provider/1/b 30 1 failures", "hold provider/2 30 1 failures",
		"hold provider/3 30 1 failures"}
	if diff := cmp.Diff(want, texts(Judge(&o, judgeNow, tallies, nil, all{}))); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

// What reporters made up, and what may not be held, take no room, and nobody is asked about them.
func TestJudgeKnowsTheCatalog(t *testing.T) {
	o := Options{Holds: 2}.WithDefaults()
	tallies := map[logbuf.Upstream][]logbuf.SlotTally{}
	report := func(id int64, model string, class logbuf.FailureClass) {
		tallies[logbuf.Upstream{ProviderID: id, Model: model}] = []logbuf.SlotTally{seen(0, 0, failed{class: 10})}
	}
	for i := range 10 {
		report(2, fmt.Sprint("made-up-", i), "server")
		report(3, fmt.Sprint("reported-", i), "server")
		report(int64(10+i), "m", "auth")
	}
	report(4, "m", "server")
	report(4, "n", "server")
	known := some{{ProviderID: 4, Model: "m"}: true, {ProviderID: 4, Model: "n"}: true, {ProviderID: 2, Model: "m"}: true,
		{ProviderID: 3, Model: "reported-1"}: false, {ProviderID: 3, Model: "reported-2"}: false}
	gone := oldHold("provider/5", -time.Minute, 1, catalog.CauseAuth)
	reported := oldHold("provider/3/reported-2", -time.Minute, 1, catalog.CauseFailures)
	want := []string{"hold provider/3/reported-1 30 1 failures", "hold provider/4/m 30 1 failures",
		"hold provider/4/n 30 1 failures"}
	got := texts(Judge(&o, judgeNow, tallies, map[string]catalog.Hold{gone.Target: gone, reported.Target: reported},
		known))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

// Whatever was seen: no hold is shortened, nothing is judged of what is held but for a later reset,
// attempts that say nothing change nothing, and whoever sees the same judges the same.
func TestJudgeProperties(t *testing.T) {
	o := Options{Holds: 3}.WithDefaults()
	classes := logbuf.FailureClasses()
	rapid.Check(t, func(t *rapid.T) {
		tallies, holds := map[logbuf.Upstream][]logbuf.SlotTally{}, map[string]catalog.Hold{}
		for range rapid.IntRange(0, 6).Draw(t, "slots") {
			u := logbuf.Upstream{ProviderID: rapid.Int64Range(1, 2).Draw(t, "provider"),
				Model: rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(t, "model")}
			s := seen(time.Duration(rapid.IntRange(0, 12).Draw(t, "age"))*10*time.Second, rapid.Int64Range(0, 12).Draw(t, "ok"),
				failed{rapid.SampledFrom(classes).Draw(t, "class"): rapid.Int64Range(0, 12).Draw(t, "failed")},
				rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y"}), 0, 2, rapid.ID).Draw(t, "by")...)
			s.Reset = judgeNow.Add(time.Duration(rapid.IntRange(-60, 600).Draw(t, "reset")) * time.Second)
			tallies[u] = append(tallies[u], s)
		}
		for _, target := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"provider/1", "provider/1/a", "provider/1/b",
			"provider/2/c", "provider/2"}), rapid.ID).Draw(t, "held") {
			h := oldHold(target, time.Duration(rapid.IntRange(-900, 900).Draw(t, "ended"))*time.Second,
				rapid.IntRange(0, 9).Draw(t, "strikes"), rapid.SampledFrom([]string{"failures", "rate", "auth", "models", ""}).Draw(
					t, "cause"))
			if rapid.Bool().Draw(t, "disabled") {
				h.Status = catalog.Disabled
			}
			holds[target] = h
		}
		verdicts := Judge(&o, judgeNow, tallies, holds, all{})
		if again := Judge(&o, judgeNow, tallies, holds, all{}); !slices.Equal(texts(verdicts), texts(again)) {
			t.Fatalf("first %v, then %v", texts(verdicts), texts(again))
		}
		once := map[string]bool{}
		for _, v := range verdicts {
			for _, refused := range v.Refused {
				if was := holds[refused.Target.String()].Revision; refused.Was != was || refused.Do != MakeHold {
					t.Fatalf("%+v was judged by revision %d, which is %d", refused, refused.Was, was)
				}
			}
			target := v.Target.String()
			old, was := holds[target]
			lasts := was && judgeNow.Before(old.Until)
			switch {
			case once[target]:
				t.Fatalf("two verdicts about %s: %v", target, texts(verdicts))
			case v.Do == MakeHold && (!v.Until.After(judgeNow) || lasts && !v.Until.After(old.Until)):
				t.Fatalf("%s is held until %s, and was until %s", target, v.Until, old.Until)
			case v.Do == MakeHold && v.Cause != catalog.CauseRate && (lasts || v.Strikes != old.Strikes+1):
				t.Fatalf("%v after %+v", texts(verdicts), old)
			case v.Do != Probe && lasts && old.Status == catalog.Disabled:
				t.Fatalf("%v undoes what a person did", texts(verdicts))
			case v.Do == Forget && (!was || lasts || !v.Until.Equal(old.Until) || v.Cause != "" || old.Cause == ""):
				t.Fatalf("%v forgets what was not", texts(verdicts))
			case v.Was != old.Revision:
				t.Fatalf("%s was judged by revision %d, which is %d", target, v.Was, old.Revision)
			case v.Do == MakeHold && v.Until.Sub(judgeNow) > o.LongestRate+time.Second && v.Cause != catalog.CauseModels:
				t.Fatalf("%v is too long", texts(verdicts))
			}
			once[target] = true
		}
		for _, slots := range tallies {
			for i := range slots {
				for _, nothing := range []logbuf.FailureClass{"client", "canceled", "newer"} {
					slots[i].Failed[nothing] += 1000
				}
			}
		}
		if with := Judge(&o, judgeNow, tallies, holds, all{}); !slices.Equal(texts(verdicts), texts(with)) {
			t.Fatalf("%v, with failures of clients %v", texts(verdicts), texts(with))
		}
	})
}

// Only some ends of a probe hold: this server's own trouble, and questions that are not understood, do
// not. A hold is prolonged shortly before its end, and ends when the probe works.
func TestAfterProbe(t *testing.T) {
	o := Options{}.WithDefaults()
	fresh := Verdict{Do: Probe, Target: catalog.HoldTarget{ProviderID: 1}, Strikes: 1, Cause: "auth"}
	held := fresh
	held.Strikes, held.Was, held.Until = 2, 9, judgeNow.Add(20*time.Second)
	refused := fresh
	refused.Refused = []Verdict{{Do: MakeHold, Target: catalog.HoldTarget{ProviderID: 1, UpstreamModel: "m"}, Strikes: 1,
		Cause: "failures", Until: judgeNow.Add(30 * time.Second)}}
	ending := held
	ending.Until = judgeNow.Add(5 * time.Second)
	for _, c := range []struct {
		name  string
		v     Verdict
		class logbuf.FailureClass
		want  []string
	}{
		{"works", fresh, "", nil},
		{"works, and refuses what some ask for", refused, "", nil},
		{"cannot be asked, and a model fails", refused, "network", []string{"hold provider/1/m 30 1 failures"}},
		{"fails, and so a model", refused, "auth", []string{"hold provider/1 30 1 auth"}},
		{"works again", held, "", []string{"forget provider/1"}},
		{"auth", fresh, "auth", []string{"hold provider/1 30 1 auth"}},
		{"billing", fresh, "billing", []string{"hold provider/1 30 1 auth"}},
		{"server", fresh, "server", []string{"hold provider/1 30 1 auth"}},
		{"timeout", fresh, "timeout", []string{"hold provider/1 30 1 auth"}},
		{"network", fresh, "network", nil},
		{"client", fresh, "client", nil},
		{"rate", fresh, "rate", nil},
		{"still", held, "auth", nil},
		{"still, at its end", ending, "auth", []string{"hold provider/1 60 2 auth"}},
		{"network at its end", ending, "network", nil},
	} {
		got := texts(c.v.After(&o, upstreams.Result{OK: c.class == "", Class: c.class}, judgeNow))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// Names that a user may have made up, behind a pattern that lists every name, change nothing for anybody
// else, whatever they do: neither for their provider nor for other models nor for the room of holds.
func TestMadeUpNamesHoldOnlyThemselves(t *testing.T) {
	o := Options{Holds: 8}.WithDefaults()
	rapid.Check(t, func(t *rapid.T) {
		tallies, holds := map[logbuf.Upstream][]logbuf.SlotTally{}, map[string]catalog.Hold{}
		for _, model := range []string{"m1", "m2", "m3", "m4", ""} {
			if rapid.Bool().Draw(t, "was seen") {
				tallies[logbuf.Upstream{ProviderID: 2, Model: model}] = []logbuf.SlotTally{seen(10*time.Second,
					rapid.Int64Range(0, 20).Draw(t, "ok"), failed{"server": rapid.Int64Range(0, 20).Draw(t, "failed")})}
			}
		}
		for _, target := range []string{"provider/2", "provider/2/m1", "provider/2/m2", "provider/2/m3"} {
			if rapid.Bool().Draw(t, "was held") {
				holds[target] = oldHold(target, time.Duration(rapid.IntRange(-60, 60).Draw(t, "ended"))*time.Second, 1,
					rapid.SampledFrom([]string{"failures", ""}).Draw(t, "cause"))
			}
		}
		want := texts(Judge(&o, judgeNow, tallies, holds, passing{}))
		for i := range rapid.IntRange(1, 12).Draw(t, "made up") {
			u := logbuf.Upstream{ProviderID: rapid.Int64Range(1, 2).Draw(t, "provider"), Model: fmt.Sprint("x", i)}
			tallies[u] = []logbuf.SlotTally{seen(0, 0, failed{rapid.SampledFrom([]logbuf.FailureClass{"server", "overload",
				"timeout"}).Draw(t, "class"): rapid.Int64Range(0, 1000).Draw(t, "failed")})}
			if target := fmt.Sprintf("provider/%d/%s", u.ProviderID, u.Model); i < 4 && rapid.Bool().Draw(t, "is held") {
				holds[target] = oldHold(target, -time.Minute, 5, "failures")
			}
		}
		got := slices.DeleteFunc(texts(Judge(&o, judgeNow, tallies, holds, passing{})), func(v string) bool {
			return strings.Contains(v, "/x")
		})
		if !slices.Equal(got, want) {
			t.Fatalf("with names that are made up %q, without %q", got, want)
		}
	})
}

// Three models that fail are no reason to hold a provider that mostly works; nor are three that only
// a pattern lists, unless they are known to have worked.
func TestThreeModels(t *testing.T) {
	o := Options{}.WithDefaults()
	fail, worked := seen(0, 0, failed{"server": 10}), seen(100*time.Second, 1, failed{"server": 10})
	upstream := func(model string) logbuf.Upstream { return logbuf.Upstream{ProviderID: 1, Model: model} }
	for name, c := range map[string]struct {
		models [3]string
		of     logbuf.SlotTally
		others int64 // attempts at another model, which work
		madeUp int64 // at a name that a user has made up, which fail
		held   bool
	}{
		"all fail":          {models: [3]string{"m1", "m2", "m3"}, of: fail, held: true},
		"nothing was seen":  {models: [3]string{"m1", "m2", "m3"}, held: true},
		"another one works": {models: [3]string{"m1", "m2", "m3"}, of: fail, others: 31},
		"and made-up names fail": {models: [3]string{"m1", "m2", "m3"}, of: fail,
			others: 31, madeUp: 1000},
		"another works seldom":  {models: [3]string{"m1", "m2", "m3"}, of: fail, others: 29, held: true},
		"made up":               {models: [3]string{"m1", "m2", "x3"}, of: fail},
		"by a pattern, worked":  {models: [3]string{"x1", "x2", "x3"}, of: worked, held: true},
		"by a pattern, unheard": {models: [3]string{"x1", "x2", "x3"}},
	} {
		t.Run(name, func(t *testing.T) {
			tallies, holds := map[logbuf.Upstream][]logbuf.SlotTally{}, map[string]catalog.Hold{}
			if c.others > 0 {
				tallies[upstream("m4")] = []logbuf.SlotTally{seen(0, c.others, nil)}
			}
			if c.madeUp > 0 {
				tallies[upstream("x9")] = []logbuf.SlotTally{seen(0, 0, failed{"server": c.madeUp})}
			}
			for _, model := range c.models {
				h := oldHold("provider/1/"+model, -time.Minute, 2, "failures")
				holds[h.Target] = h
				if c.of.Attempts() > 0 {
					tallies[upstream(model)] = []logbuf.SlotTally{c.of}
				}
			}
			held := slices.Contains(texts(Judge(&o, judgeNow, tallies, holds, passing{})), "hold provider/1 60 1 models")
			if held != c.held {
				t.Errorf("the provider is held: %t", held)
			}
		})
	}
}
