package picture

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// width is that of all pictures, in pixels: a page's column.
const width = 820

// style has the colours. Series are numbered.
const style = `
text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:15px;font-weight:600}.head{font-weight:600}.dim{fill:#59636e}
.small{font-size:9px}.small,.value{paint-order:stroke;stroke:#fff;stroke-width:3px}
.back{fill:#fff}.grid{stroke:#d1d9e0;fill:none}.axis{stroke:#818b98;fill:none}.mark{stroke:#818b98;stroke-dasharray:2 3;fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.s0{stroke:#0969da}.s1{stroke:#bc4c00;stroke-dasharray:7 4}.s2{stroke:#1a7f37;stroke-dasharray:2 4}.s3{stroke:#8250df;stroke-dasharray:9 4 2 4}
.f0{fill:#0969da}.f1{fill:#bc4c00}.f2{fill:#1a7f37}.f3{fill:#8250df}.f4{fill:#6e7781}
@media(prefers-color-scheme:dark){
text{fill:#f0f6fc}.dim{fill:#9198a1}.back{fill:#0d1117}.small,.value{stroke:#0d1117}.grid{stroke:#2f353d}.axis,.mark{stroke:#656c76}
.s0{stroke:#4493f8}.s1{stroke:#f0883e}.s2{stroke:#3fb950}.s3{stroke:#ab7df8}
.f0{fill:#4493f8}.f1{fill:#f0883e}.f2{fill:#3fb950}.f3{fill:#ab7df8}.f4{fill:#9198a1}
}`

// series is how many styles of lines there are.
const series = 4

// canvas is a picture in the making.
type canvas struct{ b strings.Builder }

// place is where a text is beside its point.
type place string

const (
	after  place = "start"
	middle place = "middle"
	before place = "end"
)

func (c *canvas) text(x, y float64, at place, class, text string) {
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, at, class, escape(text))
}

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&c.b, `<path d="M%.1f %.1fL%.1f %.1f" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

func (c *canvas) path(points [][2]float64, class string) {
	var d strings.Builder
	for i, p := range points {
		letter := byte('L')
		if i == 0 {
			letter = 'M'
		}
		fmt.Fprintf(&d, "%c%.1f %.1f", letter, p[0], p[1])
	}
	fmt.Fprintf(&c.b, `<path d="%s" class="%s"/>`+"\n", d.String(), class)
}

func (c *canvas) dot(x, y, radius float64, class string) {
	fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="%.1f" class="%s"/>`+"\n", x, y, radius, class)
}

func (c *canvas) bar(x, y, w, h, opacity float64, class string) {
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill-opacity="%.2f" class="%s"/>`+"\n", x, y, w, h, opacity, class)
}

// whole is the picture, with its title.
func (c *canvas) whole(title string, height float64) []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" viewBox="0 0 %d %.0f" role="img">
<title>%s</title>
<style>%s
</style>
<rect width="100%%" height="100%%" rx="6" class="back"/>
<text x="16" y="26" class="title">%s</text>
%s</svg>
`, width, height, width, height, escape(title), style, escape(title), c.b.String())
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}

// wide is about how wide a text is.
func wide(text string) float64 { return 6.8 * float64(len([]rune(text))) }
