package picture

import "slices"

// Lines is a picture with a panel for each unit. Figures are stored with it.
type Lines struct {
	Name   string  `json:"name"` // of the file, without its ending
	Title  string  `json:"title"`
	X      string  `json:"x"`
	LogX   bool    `json:"log_x,omitempty"`
	From   float64 `json:"from,omitempty"` // where a logarithmic axis begins: what is less is drawn there
	Panels []Panel `json:"panels"`
}

// Panel has lines of one unit.
type Panel struct {
	Title string  `json:"title"` // what the lines show, and its unit
	Lines []Line  `json:"lines"`
	High  float64 `json:"high,omitempty"` // the end of the axis; 0: a round number above the highest value
	// Marks are values whose places on the lines are marked.
	Marks []Mark `json:"marks,omitempty"`
}

// Line is one of them.
type Line struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Mark is a value of the upright axis.
type Mark struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // of the other axis
}

// Sizes, in pixels.
const (
	edge       = 16 // around everything
	titleDepth = 40
	lineDepth  = 18 // of a line of text
	plotHeight = 220
	ticksWidth = 46 // for the numbers beside an upright axis
	ticksDepth = 40 // for those below
	gap        = 28 // between panels
	fewPoints  = 12 // with more of them, a line has no dots
)

// Draw makes the picture.
func (l *Lines) Draw() []byte {
	var c canvas
	each := (width - 2*edge - gap*float64(len(l.Panels)-1)) / float64(len(l.Panels))
	depth := 0.0
	for _, p := range l.Panels {
		depth = max(depth, p.legendDepth(each))
	}
	top := titleDepth + lineDepth + depth
	for i := range l.Panels {
		l.panel(&c, &l.Panels[i], edge+float64(i)*(each+gap), each, top)
	}
	return c.whole(l.Title, top+plotHeight+ticksDepth+edge/2)
}

// panel draws one, whose plot begins at top.
func (l *Lines) panel(c *canvas, p *Panel, left, wide, top float64) {
	c.text(left, titleDepth+lineDepth-6, after, "head", p.Title)
	p.legend(c, left, wide)
	right := left + wide - edge // the last number below is in the middle of its line
	if len(p.Marks) > 0 {
		right = left + wide - ticksWidth
	}
	x, y := l.axes(p)
	x.from, x.to, y.from, y.to = left+ticksWidth, right, top+plotHeight, top
	for _, v := range y.ticks() {
		c.line(x.from, y.at(v), x.to, y.at(v), "grid")
		c.text(x.from-6, y.at(v)+4, before, "dim", Number(v))
	}
	for _, v := range x.ticks() {
		c.line(x.at(v), y.from, x.at(v), y.from+4, "axis")
		if l.LogX {
			c.line(x.at(v), y.from, x.at(v), y.to, "grid")
		}
		text := Number(v)
		if l.LogX && v == x.low {
			text = "≤ " + text
		}
		c.text(x.at(v), y.from+16, middle, "dim", text)
	}
	c.line(x.from, y.from, x.to, y.from, "axis")
	c.text((x.from+x.to)/2, y.from+33, middle, "dim", l.X)
	for i, line := range p.Lines {
		points := make([][2]float64, 0, len(line.Points))
		for _, at := range line.Points {
			points = append(points, [2]float64{x.at(at[0]), y.at(at[1])})
		}
		c.path(points, "line "+classOf("s", i))
		if len(points) <= fewPoints {
			for _, at := range points {
				c.dot(at[0], at[1], 2.5, classOf("f", i))
			}
		}
	}
	for _, m := range p.Marks {
		p.mark(c, m, x, y)
	}
}

// axes are those of a panel. All panels have the same one below.
func (l *Lines) axes(p *Panel) (x, y axis) {
	var right, highest float64
	for _, panel := range l.Panels {
		for _, line := range panel.Lines {
			for _, at := range line.Points {
				right = max(right, at[0])
			}
		}
	}
	for _, line := range p.Lines {
		for _, at := range line.Points {
			highest = max(highest, at[1])
		}
	}
	x, y = axisFor(l.From, right, l.LogX), axisFor(0, highest, false)
	if p.High > 0 {
		y.high = p.High
	}
	return x, y
}

// legend names the lines above the plot, where there are several.
func (p *Panel) legend(c *canvas, left, wide float64) {
	p.layLegend(wide, func(i int, x, y float64) {
		x, y = left+x, titleDepth+2*lineDepth-6+y
		c.line(x, y-4, x+26, y-4, "line "+classOf("s", i))
		c.text(x+32, y, after, "", p.Lines[i].Name)
	})
}

func (p *Panel) legendDepth(wide float64) float64 {
	return p.layLegend(wide, func(int, float64, float64) {})
}

// layLegend finds a place for each name, in as many rows as needed, and returns their depth.
func (p *Panel) layLegend(room float64, put func(i int, x, y float64)) float64 {
	if len(p.Lines) < 2 {
		return 10
	}
	x, y := 0.0, 0.0
	for i, line := range p.Lines {
		needs := 32 + wide(line.Name) + 18
		if x > 0 && x+needs > room {
			x, y = 0, y+lineDepth
		}
		put(i, x, y)
		x += needs
	}
	return y + lineDepth + 10
}

// mark marks a value on all lines, and says where they reach it: the first one before the dot,
// the others behind it.
func (p *Panel) mark(c *canvas, m Mark, x, y axis) {
	c.line(x.from, y.at(m.Value), x.to, y.at(m.Value), "mark")
	c.text(x.to+6, y.at(m.Value)+4, after, "dim", m.Name)
	type reached struct {
		line  int
		value float64
	}
	var all []reached
	for i, line := range p.Lines {
		if n := slices.IndexFunc(line.Points, func(at [2]float64) bool { return at[1] >= m.Value }); n >= 0 {
			all = append(all, reached{i, line.Points[n][0]})
		}
	}
	slices.SortFunc(all, func(a, b reached) int { return int(x.at(a.value)*10) - int(x.at(b.value)*10) })
	for n, r := range all {
		c.dot(x.at(r.value), y.at(m.Value), 3.5, classOf("f", r.line))
		if text := Number(r.value) + " " + m.Unit; n == 0 && len(all) > 1 {
			c.text(x.at(r.value)-7, y.at(m.Value)-4, before, "value", text)
		} else {
			c.text(x.at(r.value)+7, y.at(m.Value)+13, after, "value", text)
		}
	}
}

// classOf is the class of a line's style.
func classOf(kind string, i int) string {
	return kind + string(rune('0'+i%series))
}
