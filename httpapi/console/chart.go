package console

import (
	"time"

	"github.com/ez-api/ez-api/httpapi/client"
	"github.com/ez-api/ez-api/logbuf"
)

// A chart is a row of bars, each of one or two parts, with its figures as a table. The template draws
// it; what is here is where everything lies, in units of the drawing.
type chart struct {
	Name   string // key of the catalogue
	Series []string
	Bars   []bar
	Top    string // what the highest line stands for
	From   string
	To     string
	Width  int
	Height int
	Total  string
}

// A bar is an interval.
type bar struct {
	X, Width float64
	Parts    []part
	Label    string
	Figures  []string
}

// A part is a piece of a bar.
type part struct {
	Class  string
	Y, H   float64
	Figure string
}

const (
	chartWidth  = 720
	chartHeight = 160
)

// value is what is drawn of one interval.
type value struct {
	label  string
	parts  []float64 // from below
	figure []string
}

// draw places the bars.
func draw(c chart, values []value, top func(float64) (float64, string)) chart {
	c.Width, c.Height = chartWidth, chartHeight
	highest := 0.0
	for _, v := range values {
		sum := 0.0
		for _, part := range v.parts {
			sum += part
		}
		highest = max(highest, sum)
	}
	scale, text := top(highest)
	c.Top = text
	slot := chartWidth / float64(max(1, len(values)))
	for i, v := range values {
		b := bar{X: float64(i)*slot + slot*0.12, Width: slot * 0.76, Label: v.label, Figures: v.figure}
		y := float64(chartHeight)
		for n, size := range v.parts {
			h := 0.0
			if scale > 0 {
				h = size / scale * chartHeight
			}
			if size > 0 {
				h = max(h, 1)
			}
			y -= h
			b.Parts = append(b.Parts, part{Class: c.Series[n], Y: y, H: h, Figure: v.figure[n]})
		}
		c.Bars = append(c.Bars, b)
	}
	if len(values) > 0 {
		c.From, c.To = values[0].label, values[len(values)-1].label
	}
	return c
}

// round returns the next round number: 1, 2 or 5 times a power of ten.
func round(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := 1.0
	for power*10 < v {
		power *= 10
	}
	for power > v {
		power /= 10
	}
	for _, n := range []float64{1, 2, 5} {
		if power*n >= v {
			return power * n
		}
	}
	return power * 10
}

// usageCharts draws requests and costs. Intervals in which nothing was used are empty bars.
func (p *page) usageCharts(usage client.UsagePage, interval logbuf.Interval) []chart {
	byStart := map[time.Time]*use{}
	for _, row := range usage.Data {
		u := byStart[row.Start.UTC()]
		if u == nil {
			u = &use{}
			byStart[row.Start.UTC()] = u
		}
		u.add(row)
	}
	layout := map[logbuf.Interval]string{logbuf.Hour: "01-02 15:04"}[interval]
	if layout == "" {
		layout = time.DateOnly
	}
	var requests, costs []value
	var total use
	for _, start := range intervals(usage.Since, usage.Until, interval, p.zone) {
		u := byStart[start.UTC()]
		if u == nil {
			u = &use{}
		}
		total.add(client.Usage{Requests: u.Requests, Errors: u.Errors, CostNanoUSD: u.Cost})
		label := start.In(p.zone).Format(layout)
		requests = append(requests, value{label, []float64{float64(u.Requests - u.Errors), float64(u.Errors)},
			[]string{number(u.Requests - u.Errors), number(u.Errors)}})
		costs = append(costs, value{label, []float64{float64(u.Cost)}, []string{usd(u.Cost)}})
	}
	return []chart{
		draw(
			chart{Name: "chart.requests", Series: []string{"good", "failed"}, Total: number(total.Requests)},
			requests,
			func(v float64) (float64, string) { v = max(1, round(v)); return v, number(int64(v)) },
		),
		draw(chart{Name: "chart.cost", Series: []string{"cost"}, Total: usd(total.Cost)}, costs,
			func(v float64) (float64, string) { v = round(v); return v, usd(int64(v)) }),
	}
}

// maxBars bounds a chart.
const maxBars = 1000

// intervals returns when the intervals of a span begin, as GET /usage names them: the first is the
// beginning of the span where that comes later.
func intervals(since, until time.Time, interval logbuf.Interval, zone *time.Location) (starts []time.Time) {
	for at := since; at.Before(until) && len(starts) < maxBars; at = interval.Next(at, zone) {
		starts = append(starts, at)
	}
	return starts
}
