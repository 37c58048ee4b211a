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
	// nodePage is how many reports one command returns, and forgetCount how many one forgets.
	nodePage    = 500
	forgetCount = 500 // CLEAN_UP of nodes_lib.lua

	maxSweeps = 2000    // commands that forget surplus reports, at once
	maxBad    = 8 << 20 // bytes of reports that cannot be read, at once
)

var errNonsense = errors.New("the script's answer makes no sense")

// Nodes implements [snapshot.Publisher]. Each 500 reports take one round trip. It reads no more than there may be.
func (p *Publisher) Nodes(ctx context.Context, q snapshot.NodeQuery) (snapshot.NodeList, error) {
	page := nodesPage{from: "-inf", latest: max(q.Limit, 0), count: nodePage}
	if !q.Since.IsZero() {
		page.from = seconds(q.Since)
	}
	found, err := p.firstNodes(ctx, page)
	list := snapshot.NodeList{Now: found.now, Total: found.total, Crowded: found.crowded, Left: found.left}
	bad := badReports{orphans: found.hashed - found.total}
	came := make(map[string]float64) // by id, the score under which it came last
	byID := make(map[string]snapshot.Node)
	for {
		if err != nil {
			return snapshot.NodeList{}, wrap("nodes", err)
		}
		for _, r := range found.reports {
			n, err := r.node()
			if err != nil {
				bad.add(r.id, r.text)
				continue
			}
			byID[n.ID], came[n.ID] = n, r.score
		}
		if !found.more || len(byID) >= p.maxNodes+nodePage {
			break
		}
		found, err = p.readNodes(ctx, found.next)
	}
	for _, n := range byID {
		list.Nodes = append(list.Nodes, n)
	}
	if most := cmp.Or(max(q.Limit, 0), p.maxNodes); len(list.Nodes) > most {
		slices.SortFunc(list.Nodes, func(a, b snapshot.Node) int { return cmp.Compare(came[a.ID], came[b.ID]) })
		list.Nodes = list.Nodes[len(list.Nodes)-most:]
	}
	slices.SortFunc(list.Nodes, func(a, b snapshot.Node) int {
		return cmp.Or(a.SeenAt.Compare(b.SeenAt), cmp.Compare(came[a.ID], came[b.ID]), strings.Compare(a.ID, b.ID))
	})
	return list, wrap("nodes", p.cleanUp(ctx, bad))
}

// firstNodes reads the first page. Where there are more reports than there may be, because somebody has written them
// past the script that reports, it forgets the surplus before. Without the right to do so it reads the latest.
func (p *Publisher) firstNodes(ctx context.Context, page nodesPage) (nodesFound, error) {
	found, err := p.readNodes(ctx, page)
	if err != nil || found.total <= p.maxNodes {
		return found, err
	}
	for range maxSweeps {
		before := found.total
		found, err = p.readNodes(ctx, nodesPage{from: "-inf"})
		if err != nil {
			return found, err
		}
		if found.total <= p.maxNodes || found.total >= before {
			break
		}
	}
	if found.total > p.maxNodes && page.latest == 0 {
		page.latest = p.maxNodes
	}
	return p.readNodes(ctx, page)
}

// nodesPage is what is read at a time.
type nodesPage struct {
	from   string // score of the first
	latest int    // that many at most, the latest; 0 all
	offset int    // among those of the same score
	count  int
}

// nodesFound is a page.
type nodesFound struct {
	now     time.Time
	total   int // reports in the index
	hashed  int // and in the hash
	crowded bool
	more    bool // there may be
	next    nodesPage
	reports []nodeReport
	left    []snapshot.Node
}

// nodeReport is one report as it is kept.
type nodeReport struct {
	id, text string
	score    float64
}

func (p *Publisher) readNodes(ctx context.Context, g nodesPage) (f nodesFound, err error) {
	answer, err := p.ask(ctx, nodesScript, p.keys(keyNodes, keySeen, keyCrowded, keyLeft), []any{
		g.from, g.latest, g.offset, g.count, int(snapshot.Remembered.Seconds()), int(snapshot.Liveness.Seconds()),
		p.maxNodes,
	})
	if err != nil {
		return f, err
	}
	const header = 8
	if len(answer) < header || (len(answer)-header)%3 != 0 {
		return f, errNonsense
	}
	now, err := strconv.ParseFloat(answer[0], 64)
	if err != nil {
		return f, errNonsense
	}
	f.now, f.crowded, f.more = timeOf(now), answer[3] == "1", answer[4] == "1"
	f.next = nodesPage{from: answer[5], count: g.count}
	for i, n := range map[int]*int{1: &f.total, 2: &f.hashed, 6: &f.next.offset} {
		if *n, err = strconv.Atoi(answer[i]); err != nil {
			return f, errNonsense
		}
	}
	for text := range strings.Lines(answer[7]) { // the first may be cut
		if n, err := snapshot.ParseNode([]byte(text)); err == nil && n.Leaving {
			f.left = append(f.left, n)
		}
	}
	for r := range slices.Chunk(answer[header:], 3) {
		score, err := strconv.ParseFloat(r[1], 64)
		if err != nil {
			return f, fmt.Errorf("the index of nodes holds the score %q", r[1])
		}
		f.reports = append(f.reports, nodeReport{id: r[0], text: r[2], score: score})
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

// badReports are reports that are to be forgotten.
type badReports struct {
	texts   []string // of each its id, and what the hash holds
	bytes   int
	orphans int // how many more the hash seems to hold than the index
}

// add takes one more; beyond maxBad bytes they wait for the next time.
func (b *badReports) add(id, text string) {
	if b.bytes += len(id) + len(text); b.bytes <= maxBad {
		b.texts = append(b.texts, id, text)
	}
}

// cleanUp forgets reports that cannot be read, and looks for those that the index does not know.
func (p *Publisher) cleanUp(ctx context.Context, bad badReports) error {
	if err := p.orphan.find(ctx, p, &bad); err != nil {
		return err
	}
	if len(bad.texts) == 0 {
		return nil
	}
	p.log.DebugContext(ctx, "reports that make no sense are forgotten", "reports", len(bad.texts)/2)
	for some := range slices.Chunk(bad.texts, 2*forgetCount) {
		args := make([]any, len(some))
		for i, text := range some {
			args[i] = text
		}
		_, err := p.ask(ctx, forgetScript, p.keys(keyNodes, keySeen), args)
		if errors.Is(err, ErrRights) {
			return nil // left to those who have them
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// orphans walks over the hash of nodes, a piece at a time, for what the index does not know. The index bounds
// the number of reports, so nothing may stay beside it.
type orphans struct {
	mu     sync.Mutex
	cursor uint64
	next   time.Time
}

const (
	orphanEvery  = 2 * time.Second
	orphanCount  = 200
	orphanRounds = 25 // at once, where the hash is larger than the index
)

// find adds some, in turn. It asks Redis now and then only.
func (o *orphans) find(ctx context.Context, p *Publisher, bad *badReports) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Now().Before(o.next) {
		return nil
	}
	o.next = time.Now().Add(orphanEvery)
	rounds := 1
	if bad.orphans > 0 {
		rounds = orphanRounds
	}
	for range rounds {
		if err := o.walk(ctx, p, bad); err != nil || o.cursor == 0 {
			return ignoreWrongType(err)
		}
	}
	return nil
}

// walk looks at the next piece.
func (o *orphans) walk(ctx context.Context, p *Publisher, bad *badReports) error {
	pairs, cursor, err := p.client.HScan(ctx, p.key(keyNodes), o.cursor, "", orphanCount).Result()
	o.cursor = cursor
	if err != nil || len(pairs) == 0 {
		return err
	}
	ids := make([]string, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		ids = append(ids, pairs[i])
	}
	scores, err := p.client.ZMScore(ctx, p.key(keySeen), ids...).Result()
	if err != nil {
		return err
	}
	for i, score := range scores {
		if score == 0 && i < len(ids) {
			bad.add(ids[i], pairs[2*i+1])
		}
	}
	return nil
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
