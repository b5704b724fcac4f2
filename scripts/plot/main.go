// Plot draws the curves in the files of figures that the benchmarks have written
// into a folder, each as an SVG beside them: plot docs/performance.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// curve is one picture. See test/bench/measure, which writes it.
type curve struct {
	Name   string `json:"name"` // of the file, without its ending
	Title  string `json:"title"`
	X      string `json:"x"`
	Y      string `json:"y"`
	LogX   bool   `json:"log_x"`
	Series []struct {
		Name   string       `json:"name"`
		Points [][2]float64 `json:"points"`
	} `json:"series"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: plot FOLDER")
		os.Exit(2)
	}
	if err := drawAll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func drawAll(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var figures struct {
			Curves []curve `json:"curves"`
		}
		if err := json.Unmarshal(content, &figures); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, c := range figures.Curves {
			if err := c.draw(folder); err != nil {
				return fmt.Errorf("%s: %s: %w", file, c.Name, err)
			}
		}
	}
	return nil
}

func (c *curve) draw(folder string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	highest := 0.0
	var lines []any
	for _, s := range c.Series {
		if len(s.Points) == 0 {
			return errors.New("a series has no points")
		}
		var points plotter.XYs
		for _, at := range s.Points {
			points = append(points, plotter.XY{X: at[0], Y: at[1]})
			highest = math.Max(highest, at[1])
		}
		lines = append(lines, s.Name, points)
	}
	if err := plotutil.AddLinePoints(p, lines...); err != nil {
		return err
	}
	p.Y.Max = max(1.25, 1+0.125*float64(len(c.Series))) * highest // the legend is above the curves
	if c.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, filepath.Join(folder, c.Name+".svg"))
}
