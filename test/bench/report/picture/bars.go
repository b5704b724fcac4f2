package picture

import (
	"fmt"
	"slices"
)

// Bars is a picture with a panel for each kind of request, and in each a group of bars for each
// program, all in the same order.
type Bars struct {
	Title  string
	Unit   string   // below the panels
	Line   float64  // the value with a line across
	Each   []string // the names of a group's bars
	Panels []string
	Kinds  []string // of programs: each has a colour
	Groups []Group
}

// Group has the bars of one program.
type Group struct {
	Name string
	Kind string
	// Values are those of a panel's bars.
	Values [][]float64
}

const (
	barDepth   = 10
	groupGap   = 9
	namesWidth = 290
	valueWidth = 34 // of the number behind a bar
)

// opacities tell the bars of a group from each other.
var opacities = []float64{0.45, 0.7, 1}

// Draw makes the picture.
func (b *Bars) Draw() []byte {
	var c canvas
	highest := b.Line
	for _, g := range b.Groups {
		for _, values := range g.Values {
			highest = max(highest, slices.Max(append([]float64{0}, values...)))
		}
	}
	b.legend(&c)
	top := titleDepth + 3.0*lineDepth + 14
	deep := float64(len(b.Each))*barDepth + groupGap
	end := top + deep*float64(len(b.Groups))
	each := (width - 2*edge - namesWidth - gap*float64(len(b.Panels)-1)) / float64(len(b.Panels))
	for i, g := range b.Groups {
		c.text(edge+namesWidth-12, top+deep*float64(i)+deep/2, before, "", g.Name)
	}
	for n, name := range b.Panels {
		left := edge + namesWidth + float64(n)*(each+gap)
		x := axisFor(0, highest, false)
		x.from, x.to = left, left+each-valueWidth
		c.text(left, top-6, after, "head", name)
		for _, v := range x.ticks() {
			c.line(x.at(v), top, x.at(v), end, "grid")
			c.text(x.at(v), end+14, middle, "dim", Number(v))
		}
		c.line(x.at(b.Line), top-2, x.at(b.Line), end, "axis")
		for i, g := range b.Groups {
			if n >= len(g.Values) {
				continue
			}
			for k, v := range g.Values[n] {
				y := top + deep*float64(i) + groupGap/2 + float64(k)*barDepth
				c.bar(left, y, x.at(v)-left, barDepth-1.5, opacities[k%len(opacities)], b.colour(g.Kind))
				c.text(x.at(v)+4, y+barDepth-2.2, after, "small dim", fmt.Sprintf("%.2f", v))
			}
		}
		c.line(left, top, left, end, "axis")
	}
	c.text(edge, end+36, after, "dim", b.Unit)
	return c.whole(b.Title, end+36+edge)
}

// legend names the kinds, and the bars of a group.
func (b *Bars) legend(c *canvas) {
	x, y := float64(edge), titleDepth+lineDepth-6.0
	item := func(name, class string, opacity float64) {
		c.bar(x, y-10, 14, 11, opacity, class)
		c.text(x+20, y, after, "", name)
		x += 20 + wide(name) + 14
	}
	for _, kind := range b.Kinds {
		item(kind, b.colour(kind), 1)
	}
	x, y = edge, y+lineDepth
	for i, name := range b.Each {
		item(name, "f4", opacities[i%len(opacities)])
	}
}

// colour is the class of a kind's colour.
func (b *Bars) colour(kind string) string { return classOf("f", slices.Index(b.Kinds, kind)) }
