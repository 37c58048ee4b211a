package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/snapshot"
)

const (
	// nodePage is how many reports one command returns.
	nodePage = 500
)

// Report implements [snapshot.Reporter]. It takes one round trip.
func (p *Publisher) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	text := n.Encode()
	if _, err := snapshot.ParseNode(text); err != nil {
		return snapshot.Answer{}, wrap("report", err)
	}
	answer, err := p.ask(ctx, reportScript, p.keys(keyNodes, keySeen, keyCrowded), []any{
		p.key(keyHead), p.key(keyBeat), n.ID, text, max(n.Age, 0).Microseconds(), flag(n.Leaving),
		int(snapshot.Liveness.Seconds()), int(snapshot.Remembered.Seconds()), p.maxNodes, maxBeat,
	})
	if err != nil {
		return snapshot.Answer{}, wrap("report", err)
	}
	if len(answer) != 5 {
		return snapshot.Answer{}, wrap("report", errors.New("the script's answer makes no sense"))
	}
	live, err := strconv.Atoi(answer[0])
	if err != nil {
		return snapshot.Answer{}, wrap("report", errors.New("the script's answer makes no sense"))
	}
	return snapshot.Answer{
		Head: snapshot.Base{
			Epoch:    answer[1],
			Revision: answer[2],
			Sig:      answer[3],
		}, Beat: readBeat(answer[4]), Live: live,
	}, nil
}

// Nodes implements [snapshot.Publisher]. Each 500 reports take one round trip.
func (p *Publisher) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	page := nodesPage{from: "-inf", latest: max(q.Limit, 0)}
	if !q.Since.IsZero() {
		page.from = seconds(q.Since)
	}
	var list snapshot.NodeList
	came := make(map[string]float64) // by id, the score under which it came last
	byID := make(map[string]snapshot.Node)
	var damaged []any
	for first := true; ; first = false {
		found, err := p.readNodes(ctx, &page)
		if err != nil {
			return snapshot.NodeList{}, wrap("nodes", err)
		}
		if first {
			list = snapshot.NodeList{Now: found.now, Total: found.total, Crowded: found.crowded}
		}
		for _, r := range found.reports {
			n, err := r.node()
			if err != nil {
				damaged = append(damaged, r.id, r.text)
				continue
			}
			byID[n.ID], came[n.ID] = n, r.score
		}
		if !page.advance(found.reports) {
			break
		}
	}
	for _, n := range byID {
		list.Nodes = append(list.Nodes, n)
	}
	if q.Limit > 0 && len(list.Nodes) > q.Limit {
		slices.SortFunc(list.Nodes, func(a, b snapshot.Node) int { return cmp.Compare(came[a.ID], came[b.ID]) })
		list.Nodes = list.Nodes[len(list.Nodes)-q.Limit:]
	}
	slices.SortFunc(list.Nodes, func(a, b snapshot.Node) int {
		return cmp.Or(a.SeenAt.Compare(b.SeenAt), cmp.Compare(came[a.ID], came[b.ID]), strings.Compare(a.ID, b.ID))
	})
	return list, wrap("nodes", p.cleanUp(ctx, damaged))
}

// nodesPage is where reading stands.
type nodesPage struct {
	from   string // score of the first
	latest int
	offset int // among those of the same score
}

// advance moves on after a page, and reports whether there may be more.
func (g *nodesPage) advance(reports []nodeReport) bool {
	g.latest = 0
	if len(reports) < nodePage {
		return false
	}
	last := reports[len(reports)-1].scoreText
	same := 0
	for _, r := range reports {
		if r.scoreText == last {
			same++
		}
	}
	// Those of the last score may go on on the next page. One that comes twice is the same report, or a newer one.
	if last == g.from {
		g.offset += same
	} else {
		g.from, g.offset = last, same
	}
	return true
}

// nodesFound is a page.
type nodesFound struct {
	now     time.Time
	total   int
	crowded bool
	reports []nodeReport
}

// nodeReport is one report as it is kept.
type nodeReport struct {
	id, scoreText, text string
	score               float64
}

func (p *Publisher) readNodes(ctx context.Context, g *nodesPage) (f nodesFound, err error) {
	answer, err := p.ask(ctx, nodesScript, p.keys(keyNodes, keySeen, keyCrowded), []any{
		g.from, g.latest, g.offset, nodePage, int(snapshot.Remembered.Seconds()),
	})
	if err != nil {
		return f, err
	}
	if len(answer) < 3 || len(answer)%3 != 0 {
		return f, errors.New("the script's answer makes no sense")
	}
	now, err := strconv.ParseFloat(answer[0], 64)
	if err != nil {
		return f, errors.New("the script's answer makes no sense")
	}
	if f.total, err = strconv.Atoi(answer[1]); err != nil {
		return f, errors.New("the script's answer makes no sense")
	}
	f.now, f.crowded = timeOf(now), answer[2] == "1"
	for r := range slices.Chunk(answer[3:], 3) {
		score, err := strconv.ParseFloat(r[1], 64)
		if err != nil {
			return f, fmt.Errorf("the index of nodes holds the score %q", r[1])
		}
		f.reports = append(f.reports, nodeReport{id: r[0], scoreText: r[1], text: r[2], score: score})
	}
	return f, nil
}

// node reads a report: a JSON object of strings, and when the node was seen, as a number or a string.
func (r nodeReport) node() (snapshot.Node, error) {
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal([]byte(r.text), &fields); err != nil {
		return snapshot.Node{}, err
	}
	seenText := strings.Trim(string(fields["seen_at"]), `"`)
	delete(fields, "seen_at")
	text, err := json.Marshal(fields)
	if err != nil {
		return snapshot.Node{}, err
	}
	n, err := snapshot.ParseNode(text)
	if err != nil {
		return snapshot.Node{}, err
	}
	if n.ID != r.id {
		return snapshot.Node{}, fmt.Errorf("the report is another node's: %w", catalog.ErrInvalid)
	}
	n.SeenAt = timeOf(r.score)
	// Nobody was seen later than the report came.
	if seen, err := strconv.ParseFloat(seenText, 64); err == nil && seen >= 0 && seen < r.score {
		n.SeenAt = timeOf(seen)
	}
	return n, nil
}

// cleanUp forgets reports that cannot be read, and looks for those that the index does not know.
func (p *Publisher) cleanUp(ctx context.Context, damaged []any) error {
	lost, err := p.orphan.find(ctx, p)
	if err != nil {
		return err
	}
	damaged = append(damaged, lost...)
	if len(damaged) == 0 {
		return nil
	}
	p.log.DebugContext(ctx, "reports that make no sense are forgotten", "reports", len(damaged)/2)
	_, err = p.ask(ctx, forgetScript, p.keys(keyNodes, keySeen), damaged)
	if errors.Is(err, ErrRights) {
		return nil // left to those who have them
	}
	return err
}

// orphans walks over the hash of nodes, a piece at a time, for what the index does not know. The index bounds
// the number of reports, so nothing may stay beside it.
type orphans struct {
	mu     sync.Mutex
	cursor uint64
	next   time.Time
}

const (
	orphanEvery = 2 * time.Second
	orphanCount = 200
)

// find returns id and text of some, in turn. It asks Redis now and then only.
func (o *orphans) find(ctx context.Context, p *Publisher) (found []any, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Now().Before(o.next) {
		return nil, nil
	}
	o.next = time.Now().Add(orphanEvery)
	pairs, cursor, err := p.client.HScan(ctx, p.key(keyNodes), o.cursor, "", orphanCount).Result()
	if err != nil || len(pairs) == 0 {
		o.cursor = 0
		return nil, ignoreWrongType(err)
	}
	ids := make([]string, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		ids = append(ids, pairs[i])
	}
	o.cursor = cursor
	scores, err := p.client.ZMScore(ctx, p.key(keySeen), ids...).Result()
	if err != nil {
		return nil, ignoreWrongType(err)
	}
	for i, score := range scores {
		if score == 0 && i < len(ids) {
			found = append(found, ids[i], pairs[2*i+1])
		}
	}
	return found, nil
}

func ignoreWrongType(err error) error {
	if err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return nil
	}
	return err
}

// seconds writes a time as a score of the index.
func seconds(t time.Time) string {
	micros := t.UnixMicro()
	return fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6)
}

// timeOf reads one.
func timeOf(seconds float64) time.Time {
	if math.IsNaN(seconds) || seconds < 0 || seconds > 1e11 {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(seconds * 1e6))).UTC()
}
