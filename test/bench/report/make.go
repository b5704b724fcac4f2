package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"vault-plugin-secrets-mcp/test/bench/report/picture"
)

// Names of stored figures.
const (
	ProxyFigures   = "proxy"
	LeasedFigures  = "leased"
	peersFigures   = "peers"
	earlierFigures = "v0.1.0"
)

// Make makes all pictures of a folder of figures, and what the page beside it says of them.
func Make(folder string) error {
	if err := drawAll(folder); err != nil {
		return err
	}
	sections := map[string]string{}
	leased, err := Load[Calls](folder, LeasedFigures)
	if err != nil {
		return err
	}
	sections[LeasedFigures] = block(leased.Machine, leased.Figures.Table())
	proxy, err := Load[Calls](folder, ProxyFigures)
	if err != nil {
		return err
	}
	sections[ProxyFigures] = block(proxy.Machine, proxy.Figures.Table())
	sections["bounds"] = block(proxy.Machine, proxy.Figures.BoundTable())
	sections["parts"] = "\n" + proxy.Figures.MemoryTable()
	maps.Copy(sections, proxy.Figures.answers())
	peers, err := Load[Peers](folder, peersFigures)
	if err != nil {
		return err
	}
	sections[peersFigures] = "\n" + peers.Figures.Table()
	earlier, err := Load[Earlier](folder, earlierFigures)
	if err != nil {
		return err
	}
	sections[earlierFigures] = "\n" + earlier.Figures.Table(&proxy.Figures)
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if err := Insert(PageOf(folder), name, sections[name]); err != nil {
			return err
		}
	}
	return write(folder, ProxyFigures, bars(&proxy.Figures, &peers.Figures).Draw())
}

// block is a table below its machine.
func block(on Machine, table string) string {
	return fmt.Sprintf("\n%s\n\n%s", on, table)
}

// drawAll draws the lines of all files.
func drawAll(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New(folder + " has no figures")
	}
	for _, file := range files {
		name := filepath.Base(file)
		figures, err := Load[json.RawMessage](folder, name[:len(name)-len(".json")])
		if err != nil {
			return err
		}
		for _, lines := range figures.Curves {
			if err := write(folder, lines.Name, lines.Draw()); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(folder, name string, svg []byte) error {
	return os.WriteFile(filepath.Join(folder, name+".svg"), svg, 0o644)
}

// bars has the requests a second of this gateway beside those of others. What was measured once
// by hand has another run's ReverseProxy to compare with.
func bars(c *Calls, peers *Peers) *picture.Bars {
	b := &picture.Bars{
		Title: "Requests a second beside a plain reverse proxy", Unit: "times those of a tuned httputil.ReverseProxy in the same run. The other programs: once, by hand, " + peers.When,
		Line: 1, Each: []string{"1 connection", "8", "64"}, Panels: []string{"200 B", "64 KB"},
		Kinds: []string{kindOurs, kindPlain, kindPeer, kindCeiling},
	}
	for _, of := range []struct{ name, target string }{
		{"/servers/{name}/mcp", Server},
		{"/servers/{name}/mcp, sessions", ServerSessions},
		{"/mcp", Aggregate},
		{"/mcp, sessions", AggregateSessions},
	} {
		g := picture.Group{Name: of.name, Kind: kindOurs}
		for _, scene := range []string{Small, Large} {
			var values []float64
			for _, n := range Connections {
				if r := c.Find(scene, of.target, n); r != nil {
					values = append(values, r.Ratio.Median)
				}
			}
			g.Values = append(g.Values, values)
		}
		b.Groups = append(b.Groups, g)
	}
	for _, p := range peers.Programs {
		if p.Short != "" {
			b.Groups = append(b.Groups, picture.Group{Name: p.Short, Kind: p.Kind, Values: [][]float64{p.Small[:], p.Large[:]}})
		}
	}
	return b
}
