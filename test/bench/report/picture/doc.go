// Package picture draws figures as SVG: lines in panels, one unit each, and bars. A picture has
// a background of its own, and colours for a light and for a dark screen. Legends are beside
// the lines, never on them, and lines differ in more than their colours.
package picture
